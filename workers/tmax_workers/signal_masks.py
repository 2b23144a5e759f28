"""Which threads of a worker take which signals.

A signal to the process goes to any thread that does not block it.  A task that blocks one, to wait for it or to keep it off, knows of
the main thread alone: any other one of the worker's would take it, and where nobody handles it, the worker would end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SYNCHRONOUS = frozenset({signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS})
"""A fault of the thread that gets it."""
RARE = frozenset({signal.SIGURG, signal.SIGXFSZ, signal.SIGPWR, 16})
"""Seldom handled by anybody; 16 has no name."""
ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


def block_all_signals() -> None:
    """This thread takes no signals from now on, nor do those it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - SYNCHRONOUS)


@contextmanager
def threads_without_signals(but: frozenset[signal.Signals] = frozenset()) -> Iterator[None]:
    """Threads that are started meanwhile take no signals, or only those in ``but``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - SYNCHRONOUS - but)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def discard_pending() -> None:
    """Forget signals that are blocked and would end this process, were they let through."""
    for number in signal.sigpending():
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.sigtimedwait((number,), 0)
