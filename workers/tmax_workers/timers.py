"""Timers that a task of this process may leave behind, and what else would come to a later task by a signal."""

from __future__ import annotations

import faulthandler
import signal

alarm_in = signal.alarm
cancel_dump = faulthandler.cancel_dump_traceback_later
_VIRTUAL, _PROFILING = (1, 2)
_OFF = (0.0, 0.0)
_getitimer, _setitimer = signal.getitimer, signal.setitimer
_unregister_dump = faulthandler.unregister
_USR1 = int(signal.SIGUSR1)


def all_off() -> None:
    """Switch off every timer of this process, and the dump of tracebacks that would take the signal which cancels."""
    alarm_in(0)
    if _getitimer(_VIRTUAL) != _OFF or _getitimer(_PROFILING) != _OFF:
        _setitimer(_VIRTUAL, 0)
        _setitimer(_PROFILING, 0)
    cancel_dump()
    _unregister_dump(_USR1)
