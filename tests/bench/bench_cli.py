"""How long does a hot verb take as a whole process, beside a bare ``python -c pass``?"""

from __future__ import annotations

import subprocess
import sys

from tests.bench.figures import Figure, in_turn, seconds_of
from tests.box import Box

TITLE = "command line (whole process)"
RUNS = 21
VERBS: dict[str, tuple[str, ...]] = {"status": ("status",), "ps": ("ps",), "submit": ("submit", "-q", "--", "true"), "wait": ("wait", "@")}


def run() -> list[Figure]:
    """Take the verbs and the bare interpreter in turn."""
    box = Box()
    # The script that pip installs, without pip: its one import, by the same interpreter.
    entry = [sys.executable, "-c", "import sys; from tmax.cli.fast import main; sys.exit(main())"]
    try:
        box.init(2)

        def timed(command: list[str]) -> float:
            return seconds_of(lambda: subprocess.run(command, env=box.env, cwd=box.root, stdout=subprocess.DEVNULL, check=True))

        bare, *ours = in_turn(
            [lambda: timed([sys.executable, "-c", "pass"]), *(lambda args=args: timed([*entry, *args]) for args in VERBS.values())],  # type: ignore[misc]
            runs=RUNS,
        )
    finally:
        box.close()
    return [
        Figure(
            what=f"tmax {name}",
            ours=f"{1000 * seconds:.1f} ms",
            peer=f"python -c pass {1000 * bare:.1f} ms",
            ratio=seconds / bare,
            must="P10: <= 1.5x, and <= 50 ms",
            holds=seconds / bare <= 1.5 and seconds <= 0.05,
        )
        for name, seconds in zip(VERBS, ours, strict=True)
    ]
