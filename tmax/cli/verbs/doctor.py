"""``doctor``: check everything that a swarm needs, with a hint where a check fails."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import Verb
from tmax.errors import ExitCode

_TINTS = {"ok": "32", "warn": "33", "fail": "31"}


def doctor(common: output.Common) -> int:
    """Print the result of every check; return 1 when one failed."""
    from tmax.cli.checks import every_check  # imports json, subprocess, psutil and more; --help loads this file, too

    found = every_check(common.layout)
    failed = any(check.state == "fail" for check in found)
    if common.json:
        rows = [{"name": check.name, "state": check.state, "detail": check.detail, "hint": check.hint} for check in found]
        output.write_json({"schema_version": output.SCHEMA_VERSION, "ok": not failed, "checks": rows})
        return int(ExitCode.FAILED if failed else ExitCode.OK)
    color = common.text_format()["color"]
    for check in found:
        if common.quiet and check.state == "ok":
            continue
        mark = f"\x1b[{_TINTS[check.state]}m{check.state:<4}\x1b[0m" if color else f"{check.state:<4}"
        output.write(
            f"{mark}  {check.name:<16}{output.escaped(check.detail)}\n"
            + (f"      type: {output.escaped(check.hint)}\n" if check.hint else "")
        )
    return int(ExitCode.FAILED if failed else ExitCode.OK)


VERB = Verb(
    "doctor",
    doctor,
    help="""Check Python, tmux, the machine, the folders and the swarm.

    Exit 1 when a check fails.  With --quiet only warnings and failures are printed.""",
    examples=(("tmax doctor", "what is missing, and what to type"), ("tmax doctor --json", "one JSON value, for programs")),
)
