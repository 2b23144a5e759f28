"""``python -P -m tmax.controller``: started by ``tmax.launch``, never by hand.

lock the state folder -> open the store -> open the engine -> listen -> tell the starter -> loop
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


def _tell(fd: int, answer: dict[str, object]) -> None:
    """Tell the starter how it went, once; a starter that is gone is no reason to stop."""
    if fd < 0:
        return
    try:
        os.write(fd, json.dumps(answer).encode() + b"\n")
        os.close(fd)
    except OSError:
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run a controller until its swarm goes down; return the exit code."""
    born = time.monotonic()
    options = _arguments(sys.argv[1:] if argv is None else argv)
    os.umask(0o077)
    from tmax.controller.loop import Controller  # its imports are part of the start we report on

    try:
        controller = Controller(Layout(check_name(options.swarm), options.state, options.runtime), born)
        controller.open()
    except TmaxError as error:
        _tell(options.ready_fd, {"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        print(f"error: {error.message}", file=sys.stderr)
        return int(error.exit_code)
    except Exception as error:  # the starter waits for an answer: an unknown fault must reach it, and the log gets all of it
        _tell(options.ready_fd, {"error": {"code": "bug", "message": f"{type(error).__name__}: {error}", "hint": "see controller.log"}})
        traceback.print_exc()
        return 1
    _tell(options.ready_fd, {"ok": True, "pid": os.getpid()})
    return controller.run()


if __name__ == "__main__":
    sys.exit(main())
