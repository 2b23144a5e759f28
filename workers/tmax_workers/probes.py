"""Table of the process state that a task can change: how each item is read and restored.

::

    rows of the modules that are loaded --one compiled expression--> a tuple      compared as a whole after each task
    differs --> row by row: restore --> impossible: its name is returned

One expression for all of them, because a call for each would cost more than the reading.
"""

from __future__ import annotations

import functools
import operator
import os
import re
import sys
from _signal import getsignal  # type: ignore[import-not-found]  # signal.getsignal looks up an enum first: ten times the price
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fcntl import F_GETFL, fcntl
from io import BufferedReader, FileIO, TextIOWrapper
from os import getpriority, sched_getaffinity, sched_setaffinity, setpriority
from signal import signal as set_signal
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

from tmax_pipes.brief_calls import locale_now, set_locale
from tmax_workers import faults, signal_masks

PutBack: TypeAlias = Callable[[Any, Any], object]
"""Called with the module and the value to restore."""
Merge: TypeAlias = Callable[[list[Any], list[Any]], list[Any]]
"""Called with the value before and the value now; returns the value to set when the task has imported modules."""


_MODULE = re.compile(r"\bm\b")
_MISSING = object()
_SIGNALS = sorted({*signal_masks.SYNCHRONOUS, *signal_masks.RARE})
"""Those that ``task_environment.py`` does not restore."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One item to check, once ``module`` is loaded.  ``read`` and ``default`` are expressions in which ``m`` is the module."""

    module: str
    read: str
    put_back: PutBack
    default: str = ""
    """What it is in a module just imported; empty: what it is when it is first read."""
    merge: Merge | None = None


def rows_of(module: str, names: str, default: str = "", merge: Merge | None = None) -> tuple[Probe, ...]:
    """Return a row for each of these variables of a module."""
    return tuple(Probe(module, f"m.{name}", _setter(name), default, merge) for name in names.split())


def _setter(path: str) -> PutBack:
    *holders, name = path.split(".")

    def put_back(module: Any, value: Any) -> None:
        for holder in holders:
            module = getattr(module, holder)
        setattr(module, name, value)

    return put_back


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


def _trace_limit() -> Any:
    return vars(sys).get("tracebacklimit", _MISSING)


def _put_trace_limit_back(_: Any, value: Any) -> None:
    if value is _MISSING:
        vars(sys).pop("tracebacklimit", None)
    else:
        sys.tracebacklimit = value


def _put_fault_handler_back(m: Any, value: bool) -> None:
    if value:
        faults.enable_again()
    else:
        m.disable()


def _handlers() -> tuple[Any, ...]:
    return tuple(map(getsignal, _SIGNALS))


def _put_handlers_back(_: Any, value: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, value, strict=True):
        if getsignal(number) is not handler:
            set_signal(number, handler)
    faults.enable_again()


def _put_context_back(m: Any, value: tuple[Any, ...]) -> None:
    one = m.DefaultContext
    one.prec, one.rounding, one.Emin, one.Emax, one.capitals, one.clamp, one.traps = value


def _put_locale_back(_: Any, value: bytes) -> None:
    set_locale(value)


def _put_options_back(m: Any, options: dict[str, Any]) -> None:
    m._format_options.clear()  # noqa: SLF001
    m._format_options.update(options)  # noqa: SLF001


def _put_stdin_back(m: Any, _closed: bool) -> None:
    m.stdin = TextIOWrapper(BufferedReader(FileIO(0, closefd=False)), encoding="utf-8", errors="surrogateescape")


def _put_builtins_back(m: Any, count: int) -> None:
    for name in list(vars(m))[count:]:  # a dictionary keeps the order in which its names came
        delattr(m, name)


def _put_filters_back(m: Any, filters: list[Any]) -> None:
    m.filters = filters
    m._filters_mutated()  # noqa: SLF001


def _keep_filters(before: list[Any], now: list[Any]) -> list[Any]:
    """Keep filters that name a message or a module: a library sets such filters at import, a task rarely does."""
    return [one for one in now if one in before or one[1] is not None or one[3] is not None]


def _keep_finders(before: list[Any], now: list[Any]) -> list[Any]:
    """Keep finders that an imported module installed, because it is not imported a second time."""
    return [one for one in now if one in before or getattr(one, "__module__", "__main__") not in {"__main__", None}]


def _end_tools(m: Any, before: dict[str, int]) -> None:
    """End the tools of ``sys.monitoring`` that make events and did not before."""
    monitoring = m.monitoring
    made = _tools(monitoring._all_events()) & ~_tools(before)  # noqa: SLF001
    for tool in range(_TOOLS):
        if made >> tool & 1:
            monitoring.set_events(tool, 0)
            for event in vars(monitoring.events).values():
                if event.bit_count() == 1:
                    monitoring.register_callback(tool, event, None)  # the next tool of this number would inherit it
            monitoring.free_tool_id(tool)


def _tools(events: dict[str, int]) -> int:
    return functools.reduce(operator.or_, events.values(), 0)


_TOOLS = 6
"""Those above are ``settrace`` and ``setprofile``."""

FUNCTIONS = (
    *rows_of("time", "time monotonic perf_counter sleep"),
    *rows_of("os", "environ getpid getcwd open read write stat fork"),
    *rows_of("builtins", "open print input __import__ len isinstance"),
    *rows_of("json", "dumps loads"),
    *rows_of("pickle", "dumps loads"),
    *rows_of("random", "random"),
    *rows_of("socket", "socket"),
    *rows_of("subprocess", "Popen run"),
    *rows_of("threading", "Thread"),
)
"""Functions that tests and tools replace most often.  A replaced function of another module stays, as a variable of that module would."""

VALUES = (
    *rows_of("sys", "stdin argv path excepthook displayhook unraisablehook modules"),
    *rows_of("sys", "meta_path path_hooks", merge=_keep_finders),
    Probe("sys", "m.getrecursionlimit()", lambda m, value: m.setrecursionlimit(value)),
    Probe("sys", "m.gettrace()", lambda m, value: m.settrace(value)),
    Probe("sys", "m.getprofile()", lambda m, value: m.setprofile(value)),
    Probe("sys", "m.monitoring._all_events()", _end_tools),  # from Python 3.12 on
    Probe("sys", "priority(0, 0)", lambda _, value: setpriority(0, 0, value)),
    Probe("sys", "affinity(0)", lambda _, value: sched_setaffinity(0, value)),
    Probe("sys", "locale()", _put_locale_back),
    Probe("sys", "standard_input()", _cannot),
    Probe("sys", "user()", _cannot),
    Probe("sys", "handlers()", _put_handlers_back),
    Probe("sys", "trace_limit()", _put_trace_limit_back),
    *rows_of("sys", "breakpointhook dont_write_bytecode pycache_prefix __stdin__ __stdout__ __stderr__"),
    Probe("sys", "m.stdin.closed", _put_stdin_back),
    Probe("sys", "m.getdlopenflags()", lambda m, value: m.setdlopenflags(value)),
    Probe("sys", "m.get_asyncgen_hooks()", lambda m, value: m.set_asyncgen_hooks(*value)),
    Probe("sys", "m.get_coroutine_origin_tracking_depth()", lambda m, value: m.set_coroutine_origin_tracking_depth(value)),
    Probe("sys", "m.getswitchinterval()", lambda m, value: m.setswitchinterval(value)),
    Probe("sys", "m.get_int_max_str_digits()", lambda m, value: m.set_int_max_str_digits(value)),
    Probe("builtins", "len(m.__dict__)", _put_builtins_back),
    *rows_of("gc", "callbacks"),
    Probe("gc", "m.isenabled()", lambda m, value: m.enable() if value else m.disable()),
    Probe("gc", "m.get_threshold()", lambda m, value: m.set_threshold(*value)),
    Probe("gc", "m.get_debug()", lambda m, value: m.set_debug(value)),
    Probe("faulthandler", "m.is_enabled()", _put_fault_handler_back),
    *rows_of("threading", "excepthook _trace_hook _profile_hook"),
    *rows_of("warnings", "showwarning formatwarning"),
    Probe("warnings", "m.filters", _put_filters_back, merge=_keep_filters),
    Probe("_socket", "m.getdefaulttimeout()", lambda m, value: m.setdefaulttimeout(value), "None"),
    Probe("_tracemalloc", "m.is_tracing()", lambda m, value: None if value else m.stop(), "False"),
    *rows_of("logging", "root.handlers", default="[]"),
    Probe("logging", "m.root.level", lambda m, value: m.root.setLevel(value), "m.WARNING"),
    Probe("logging", "m.root.manager._disable", lambda m, value: m.disable(value), "0"),
    *rows_of("logging", "root.filters", default="[]"),
    *rows_of("logging", "raiseExceptions", default="True"),
    *rows_of("logging", "lastResort", default="m._defaultLastResort"),
    *rows_of("logging", "_loggerClass", default="m.Logger"),
    *rows_of("logging", "_logRecordFactory", default="m.LogRecord"),
    *rows_of("logging", "_warnings_showwarning", default="None"),
    Probe("_csv", "m.field_size_limit()", lambda m, value: m.field_size_limit(value), "131072"),
    *rows_of("tempfile", "tempdir", default="None"),
    *rows_of("tempfile", "template", default="'tmp'"),
    *rows_of("urllib.request", "_opener", default="None"),
    Probe(
        "decimal",
        "(m.DefaultContext.prec, m.DefaultContext.rounding, m.DefaultContext.Emin, m.DefaultContext.Emax, m.DefaultContext.capitals,"
        " m.DefaultContext.clamp, m.DefaultContext.traps.copy())",
        _put_context_back,
        "(28, m.ROUND_HALF_EVEN, -999999, 999999, 1, 0,"
        " {**dict.fromkeys(m.DefaultContext.traps, False), m.InvalidOperation: True, m.DivisionByZero: True, m.Overflow: True})",
    ),
    *rows_of("asyncio.events", "_event_loop_policy", default="None"),
    *rows_of("multiprocessing.context", "_default_context._actual_context", default="None"),
    # Before NumPy 2 these belong to the thread or the module, afterwards to the context.
    Probe("numpy.core.umath", "m.geterrobj()", lambda m, value: m.seterrobj(value), "[8192, 521, None]"),
    Probe("numpy.core.arrayprint", "{**m._format_options}", _put_options_back),
    Probe("numpy._core.arrayprint", "{**m._format_options}", _put_options_back),
    Probe("torch", "m.get_default_dtype()", lambda m, value: m.set_default_dtype(value), "m.float32"),
    Probe("torch", "m.is_grad_enabled()", lambda m, value: m.set_grad_enabled(value), "True"),
    Probe("torch", "m.get_num_threads()", lambda m, value: m.set_num_threads(value)),
    Probe("torch", "m._C._get_deterministic_algorithms()", lambda m, value: m.use_deterministic_algorithms(value), "False"),
    Probe("torch", "m._C._get_cudnn_benchmark()", lambda m, value: m._C._set_cudnn_benchmark(value), "False"),  # noqa: SLF001
    Probe("torch.utils._device", "m.CURRENT_DEVICE", lambda m, value: m.torch.set_default_device(value), "None"),
)


_HELPERS = {
    "affinity": sched_getaffinity,
    "handlers": _handlers,
    "locale": locale_now,
    "priority": getpriority,
    "standard_input": _standard_input,
    "trace_limit": _trace_limit,
    "user": _user,
}
"""Names in the rows' expressions."""


class Baseline:
    """The values of a table's rows before the task, for rows whose module is loaded."""

    def __init__(self, rows: Iterable[Probe]) -> None:
        self._table = tuple(rows)
        self._modules: list[Any] = []
        self._rows: tuple[Probe, ...] = ()
        self._one_by_one: tuple[Callable[[], Any], ...] = ()
        self._read: Callable[[], tuple[Any, ...]] = tuple
        self._originals: tuple[Any, ...] = ()
        self._before: tuple[Any, ...] = ()
        self._names: dict[str, Any] = {}
        self._changed: Callable[[], bool] = bool
        self.retake()

    def retake(self) -> None:
        """Take the present values as the ones to restore."""
        self._compile()
        self._originals = self._read()
        self._set_before(tuple(map(_copy, self._originals)))

    def extend(self) -> None:
        """The task itself imported modules: add their rows with the values of a fresh import, so that ``put_back`` restores them."""
        known = dict(zip(self._rows, zip(self._originals, self._before, strict=True), strict=True))
        self._compile()
        pairs = [known.get(row) or _pair_of(row, read) for row, read in zip(self._rows, self._one_by_one, strict=True)]
        self._originals = tuple(pair[0] for pair in pairs)
        self._set_before(tuple(pair[1] for pair in pairs))

    def differs(self) -> bool:
        """Whether any value has changed."""
        try:
            return self._changed()
        except BaseException:  # a name was deleted, or a task's object raised in the comparison: check row by row
            return True

    def put_back(self, *, imported: bool = False) -> list[str]:
        """Restore values that differ; return the names of those that cannot be restored.  ``imported``: the task has imported modules."""
        lost = []
        for row, read, original, before in zip(self._rows, self._one_by_one, self._originals, self._before, strict=True):
            if _is_as_before(read, before):
                continue
            try:
                wanted = row.merge(before, read()) if imported and row.merge else before
                if type(original) is list:
                    original[:] = wanted
                    wanted = original
                row.put_back(sys.modules[row.module], wanted)
                if not _is_as_before(read, _copy(wanted)):
                    lost.append(f"{row.module}: {row.read}")
            except BaseException:  # the task may have replaced anything, also what restoring uses
                lost.append(f"{row.module}: {row.read}")
        self.retake()  # a stream or a list may be a new object now
        return lost

    def _compile(self) -> None:
        modules = [sys.modules.get(row.module) for row in self._table]
        if modules == self._modules:
            return
        self._modules = modules
        found = [(row, module) for row, module in zip(self._table, modules, strict=True) if isinstance(module, ModuleType)]
        readable = [(row, module, read) for row, module in found if _works(read := _reader(row, module))]
        self._rows = tuple(row for row, _, _ in readable)
        self._one_by_one = tuple(read for _, _, read in readable)
        whole, self._names = _expression(self._rows, [module for _, module, _ in readable])
        self._read = eval(f"lambda: ({whole},)", self._names)  # noqa: S307  # of the table above
        self._changed = eval(f"lambda: ({whole},) != before", self._names)  # noqa: S307

    def _set_before(self, values: tuple[Any, ...]) -> None:
        self._before = self._names["before"] = values


def _expression(rows: Iterable[Probe], modules: Iterable[ModuleType]) -> tuple[str, dict[str, Any]]:
    """Return what reads these rows, separated by commas, and the names in it."""
    names: dict[str, Any] = dict(_HELPERS)
    parts = []
    for row, module in zip(rows, modules, strict=True):
        name = f"m_{row.module.replace('.', '_')}"
        names[name] = module
        parts.append(_MODULE.sub(name, row.read))
    return ", ".join(parts), names


def _reader(row: Probe, module: ModuleType) -> Callable[[], Any]:
    text, names = _expression([row], [module])
    read: Callable[[], Any] = eval(f"lambda: ({text})", names)  # noqa: S307  # of the table above
    return read


def _works(read: Callable[[], Any]) -> bool:
    try:
        read()
    except Exception:  # another version of the library: skip the row
        return False
    return True


def _pair_of(row: Probe, read: Callable[[], Any]) -> tuple[Any, Any]:
    now = read()
    if not row.default:
        return now, _copy(now)
    default = eval(row.default, {"m": sys.modules[row.module]})  # noqa: S307  # of the table above
    return (now if type(now) is list else default), default


def _copy(value: Any) -> Any:
    return value.copy() if type(value) is list else value


def _is_as_before(read: Callable[[], Any], before: Any) -> bool:
    try:
        return bool(read() == before)
    except BaseException:  # deleted, or a task's object that cannot be compared
        return False
