"""How long does a hot verb take as a whole process, beside a bare ``python -c pass``?"""

from __future__ import annotations

import functools
import subprocess
import sys

from tests.bench.figures import Figure, Must, Row
from tests.bench.rounds import Sizes, in_rounds, seconds_of
from tests.box import Box

TITLE = "command line (whole process)"
VERBS: dict[str, tuple[str, ...]] = {"status": ("status",), "ps": ("ps",), "submit": ("submit", "-q", "--", "true"), "wait": ("wait", "@")}
WHOLE_S = 0.05
"""What a hot verb may take, whatever the machine's interpreter takes."""


def run(sizes: Sizes) -> list[Row]:
    """Take the verbs and the bare interpreter in rounds."""
    box = Box()
    # The script that pip installs, without pip: its one import, by the same interpreter.
    entry = [sys.executable, "-c", "import sys; from tmax.cli.fast import main; sys.exit(main())"]
    try:
        box.init(2)

        def timed(command: list[str]) -> float:
            return seconds_of(lambda: subprocess.run(command, env=box.env, cwd=box.root, stdout=subprocess.DEVNULL, check=True))

        cases = {"python": functools.partial(timed, [sys.executable, "-c", "pass"])}
        cases |= {name: functools.partial(timed, [*entry, *args]) for name, args in VERBS.items()}
        taken = in_rounds(cases, sizes.size("runs", 4 * sizes.rounds + 1, 2))
    finally:
        box.close()
    rows: list[Row] = []
    for name in VERBS:
        samples = tuple(taken[name])
        rows += [
            Figure(
                what=f"tmax {name}",
                unit="s",
                samples=samples,
                peer="python -c pass",
                peer_samples=tuple(taken["python"]),
                target="P10",
                must=Must(comparison="<=", bound=1.5),
            ),
            Figure(what=f"tmax {name}, whole", unit="s", samples=samples, must=Must(comparison="<=", bound=WHOLE_S, of="value")),
        ]
    return rows
