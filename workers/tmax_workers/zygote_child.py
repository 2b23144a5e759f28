"""The set-up of a forked process, after which it is a worker like any other.

::

    show mark and command line --> signals --> own session, the pane's terminal as controlling one, descriptors 0 1 2
    --> folder --> environment of the pane --> fresh random numbers --> tmax_workers.__main__, as by exec

Threads of numeric libraries are raised to the worker's share by its own preload, which finds the modules imported.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import termios
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import TextIO

import tmax_workers.__main__ as worker_main
from tmax_workers.proctitle import LIFE_VARIABLE, ProcessTitle
from tmax_workers.zygote_wire import ForkRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSetup:
    """What the forked process needs to become a worker."""

    life: int
    request: ForkRequest
    fds: tuple[int, int, int, int]
    """Standard input, output, error, and the folder to start in."""
    shown: ProcessTitle


def live(setup: ChildSetup) -> int:
    """Run the worker; returns an exit code only when it cannot start."""
    setup.shown.show(setup.request.argv, setup.request.env.get(LIFE_VARIABLE, b""))
    _name(setup.life)
    _reset_signals()
    _take_pane(setup.fds)
    _take_environment(setup.request.env)
    _reseed()
    arguments = [os.fsdecode(argument) for argument in setup.request.argv]
    sys.orig_argv = arguments
    sys.argv = [worker_main.__file__, *arguments[arguments.index("tmax_workers") + 1 :]]
    # Pickles by reference to __main__ and multiprocessing find the same module as after an exec.
    sys.modules["__main__"] = worker_main
    return worker_main.run()


def _name(life: int) -> None:
    """Set the short name that ``top`` shows."""
    try:
        with open("/proc/self/comm", "wb") as file:
            file.write(b"tmax-life-%d" % life)
    except OSError:
        pass  # the name is not essential


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A pane that closes before the worker ignores SIGHUP itself must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _take_pane(fds: tuple[int, int, int, int]) -> None:
    os.setsid()
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    try:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    except OSError:
        pass  # no terminal (a test), or the pane was closed meanwhile, which the worker detects itself
    try:
        os.fchdir(fds[3])
    except OSError:
        os.chdir("/")
    for fd in fds:
        if fd > 2:
            os.close(fd)
    sys.stdin = sys.__stdin__ = _stream(0, sys.stdin)  # type: ignore[misc]  # a new process would have its own
    sys.stdout = sys.__stdout__ = _stream(1, sys.stdout)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, sys.stderr)  # type: ignore[misc]


def _stream(fd: int, like: TextIO) -> TextIOWrapper:
    """Return a text stream as an interpreter creates it at its start, with the encoding of ``like``."""
    raw = FileIO(fd, "rb" if fd == 0 else "wb", closefd=False)
    buffer = BufferedReader(raw) if fd == 0 else BufferedWriter(raw)
    return TextIOWrapper(buffer, encoding=like.encoding, errors=like.errors, line_buffering=True)


def _take_environment(env: dict[bytes, bytes]) -> None:
    for name in os.environb.keys() - env.keys():
        del os.environb[name]
    os.environb.update(env)


def _reseed() -> None:
    """Seed random generators anew: otherwise every worker would draw the same numbers."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        # The CPU generator only: those of devices are created, and seeded, at their first use.
        torch.default_generator.seed()
