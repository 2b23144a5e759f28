"""The controller's entry point, ``python -P -m tmax.controller``; ``tmax.launch`` starts it.

lock the state folder -> open the store -> open the engine -> listen -> report to the starter -> loop
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence

from tmax.errors import TmaxError
from tmax.layout import Layout, check_name


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tmax.controller")
    parser.add_argument("--swarm", required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--ready-fd", type=int, default=-1)
    return parser.parse_args(argv)


def _report(fd: int, answer: dict[str, object]) -> None:
    """Report the result of the start to the starting process, once; the controller continues when that process is gone."""
    if fd < 0:
        return
    try:
        os.write(fd, json.dumps(answer).encode() + b"\n")
        os.close(fd)
    except OSError:
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run a controller until its swarm goes down; return the exit code."""
    started_at = time.monotonic()
    options = _arguments(sys.argv[1:] if argv is None else argv)
    os.umask(0o077)
    from tmax.controller.startup import run, start  # its imports are part of the start that is reported

    try:
        parts = start(Layout(check_name(options.swarm), options.state, options.runtime), started_at)
    except TmaxError as error:
        _report(options.ready_fd, {"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        print(f"error: {error.message}", file=sys.stderr)
        return int(error.exit_code)
    except Exception as error:  # the starting process waits for a report: it gets one line, and the log the traceback
        _report(options.ready_fd, {"error": {"code": "bug", "message": f"{type(error).__name__}: {error}", "hint": "see controller.log"}})
        traceback.print_exc()
        return 1
    _report(options.ready_fd, {"ok": True, "pid": os.getpid()})
    return run(parts)


if __name__ == "__main__":
    sys.exit(main())
