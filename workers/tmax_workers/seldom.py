"""What tasks change seldom, and what is too dear to look at after each.

Looked at between any two tasks that call different functions; after a task that took CLOSELY_S, that called another function
than the one before it, or that changed anything; and after each call of a function that has changed something.
So what stays is what a function changes in no time that changed nothing at its first call, and only its own next call finds it.
"""

from __future__ import annotations

import os
import sys
from _signal import getsignal  # type: ignore[import-not-found]  # signal.getsignal looks up an enum first: ten times the price
from fcntl import F_GETFL, fcntl
from signal import signal as set_signal
from typing import Any, NoReturn

from tmax_workers import faults, masks
from tmax_workers.probes import Row, rows_of

CLOSELY_S = 0.00003
"""Seconds from entering the task's folder to its result.  A no-op takes 10 us."""

_MISSING = object()
_SIGNALS = sorted({*masks.SYNCHRONOUS, *masks.SELDOM})


def _standard_input() -> tuple[int, ...]:
    """What descriptor 0 is, and its flags; empty when it is closed."""
    try:
        found = os.fstat(0)
        return found.st_dev, found.st_ino, fcntl(0, F_GETFL)
    except OSError:
        return ()


def _user() -> tuple[Any, ...]:
    return os.getresuid(), os.getresgid(), os.getgroups()


def _cannot(_module: Any, _value: Any) -> NoReturn:
    raise NotImplementedError


def _put_limit_back(_: Any, value: Any) -> None:
    if value is _MISSING:
        vars(sys).pop("tracebacklimit", None)
    else:
        sys.tracebacklimit = value


def _put_fault_handler_back(m: Any, value: bool) -> None:
    if value:
        faults.enable_again()
    else:
        m.disable()


def _put_handlers_back(_: Any, value: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, value, strict=True):
        if getsignal(number) is not handler:
            set_signal(number, handler)
    faults.enable_again()


def _put_context_back(m: Any, value: tuple[Any, ...]) -> None:
    m.DefaultContext.rounding, m.DefaultContext.Emin, m.DefaultContext.Emax, m.DefaultContext.capitals, m.DefaultContext.clamp, traps = (
        value
    )
    m.DefaultContext.traps = dict(traps)


def _handlers() -> tuple[Any, ...]:
    return tuple(map(getsignal, _SIGNALS))


NAMES = {
    "handlers": _handlers,
    "limit": lambda: vars(sys).get("tracebacklimit", _MISSING),
    "standard_input": _standard_input,
    "user": _user,
}

ROWS = (
    Row("sys", "standard_input()", _cannot),
    Row("sys", "user()", _cannot),
    Row("sys", "handlers()", _put_handlers_back),
    Row("sys", "limit()", _put_limit_back),
    *rows_of("sys", "breakpointhook dont_write_bytecode pycache_prefix __stdin__ __stdout__ __stderr__"),
    Row("sys", "m.getdlopenflags()", lambda m, value: m.setdlopenflags(value)),
    Row("sys", "m.get_asyncgen_hooks()", lambda m, value: m.set_asyncgen_hooks(*value)),
    Row("sys", "m.get_coroutine_origin_tracking_depth()", lambda m, value: m.set_coroutine_origin_tracking_depth(value)),
    Row("gc", "m.get_threshold()", lambda m, value: m.set_threshold(*value)),
    Row("gc", "m.get_debug()", lambda m, value: m.set_debug(value)),
    Row("faulthandler", "m.is_enabled()", _put_fault_handler_back),
    *rows_of("warnings", "formatwarning"),
    *rows_of("logging", "raiseExceptions", default="True"),
    *rows_of("logging", "root.filters", default="[]"),
    *rows_of("logging", "lastResort", default="m._defaultLastResort"),
    *rows_of("logging", "_loggerClass", default="m.Logger"),
    *rows_of("logging", "_logRecordFactory", default="m.LogRecord"),
    *rows_of("logging", "_warnings_showwarning", default="None"),
    *rows_of("tempfile", "template", default="'tmp'"),
    Row("_csv", "m.field_size_limit()", lambda m, value: m.field_size_limit(value), "131072"),
    Row(
        "decimal",
        "(m.DefaultContext.rounding, m.DefaultContext.Emin, m.DefaultContext.Emax, m.DefaultContext.capitals, m.DefaultContext.clamp, tuple(m.DefaultContext.traps.items()))",
        _put_context_back,
    ),
)
