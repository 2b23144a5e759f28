"""Which threads of a worker take which signals.

A signal to the process goes to any thread that does not block it.  A task that blocks a signal, to wait for it or to ignore it, does so
in the main thread only: another thread of the worker would take it, and without a handler the worker would end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SYNCHRONOUS = frozenset({signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS})
"""Raised by a fault of the thread that receives them."""
RARE = frozenset({signal.SIGURG, signal.SIGXFSZ, signal.SIGPWR, 16})
"""Rarely handled by programs; 16 has no name."""
ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


def block_all_signals() -> None:
    """Block all signals in this thread and in those it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - SYNCHRONOUS)


@contextmanager
def threads_without_signals(but: frozenset[signal.Signals] = frozenset()) -> Iterator[None]:
    """Threads started inside this context take no signals, or only those in ``but``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - SYNCHRONOUS - but)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def discard_pending() -> None:
    """Discard blocked, pending signals that would end this process when unblocked."""
    for number in signal.sigpending():
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.sigtimedwait((number,), 0)
