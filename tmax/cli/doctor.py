"""``doctor``: one line for each thing a swarm needs, with what to type where something is wrong."""

from __future__ import annotations

from typing import Any

from tmax.cli import output
from tmax.cli.main import verb
from tmax.errors import ExitCode

_TINTS = {"ok": "32", "warn": "33", "fail": "31"}


@verb("doctor", examples=(("tmax doctor", "what is missing, and what to type"), ("tmax doctor --json", "for programs")))
def doctor(common: output.Common) -> int:
    """Look at this machine, the folders and the swarm; exit 1 when something cannot work."""
    from tmax.cli.checks import every_check

    found = every_check(common.layout)
    failed = any(check.state == "fail" for check in found)
    if common.json:
        rows: list[Any] = [{"name": check.name, "state": check.state, "detail": check.detail, "hint": check.hint} for check in found]
        output.value({"schema_version": output.SCHEMA_VERSION, "ok": not failed, "checks": rows})
        return int(ExitCode.FAILED if failed else ExitCode.OK)
    color = common.look()["color"]
    for check in found:
        if common.quiet and check.state == "ok":
            continue
        mark = f"\x1b[{_TINTS[check.state]}m{check.state:<4}\x1b[0m" if color else f"{check.state:<4}"
        output.out(
            f"{mark}  {check.name:<16}{output.harmless(check.detail)}\n"
            + (f"      type: {output.harmless(check.hint)}\n" if check.hint else "")
        )
    return int(ExitCode.FAILED if failed else ExitCode.OK)
