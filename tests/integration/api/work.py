"""What the tests have workers do; imported by them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


class OnlyHere(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one}-{two}")


class Unsendable(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("not this one")


def double(x: int) -> int:
    return 2 * x


def fail(text: str) -> None:
    raise KeyError(text)


def fail_unmakable() -> None:
    raise OnlyHere(1, 2)


def fail_unsendable() -> None:
    raise Unsendable("inside")


def generator() -> object:
    return (x for x in [1])


def leave_mark_and_wait(mark: str, gate: str, limit_s: float = 60.0) -> str:
    """Say that it runs, then wait until ``gate`` exists."""
    with Path(mark).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    pause = threading.Event()
    for _ in range(int(limit_s / 0.01)):
        if Path(gate).exists():
            return "went on"
        pause.wait(0.01)
    return "nobody opened"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begin_and_end(name: str) -> str:
    """Leave a mark at the beginning and one at the end; in between there is time to be interrupted."""
    Path(f"{name}.begun").touch()
    threading.Event().wait(0.002)
    Path(f"{name}.ended").touch()
    return "ended"
