"""What every verb shares: the options it always has, and how it speaks.  Data goes to stdout, all talk to stderr."""

from __future__ import annotations

import os

from tmax.cli.codec import encode
from tmax.errors import OutputError, TmaxError
from tmax.layout import Layout, locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA_VERSION = 1
PIPE_GONE = 141
"""As a shell reports a program that SIGPIPE ended."""

_STDERR = 2
_EBADF = 9
"""``errno.EBADF`` without importing errno."""
_TIMES = frozenset({"at", "started_at", "submitted_at", "ended_at", "task_since"})


class Common:
    """The options that every verb has."""

    __slots__ = ("_layout", "color", "debug", "json", "plain", "quiet", "swarm")

    def __init__(
        self,
        *,
        swarm: str | None = None,
        json: bool = False,
        quiet: bool = False,
        debug: bool = False,
        plain: bool = False,
        color: str = "auto",
    ) -> None:
        self.swarm = swarm
        self.json = json
        self.quiet = quiet
        self.debug = debug
        self.plain = plain
        self.color = color
        self._layout: Layout | None = None

    @property
    def layout(self) -> Layout:
        """The chosen swarm's folders: ``--swarm``, else TMAX_SWARM, else ``default``.  Raises UsageError, FolderError."""
        if self._layout is None:
            self._layout = locate(os.environ.get("TMAX_SWARM") or "default" if self.swarm is None else self.swarm)
        return self._layout

    @property
    def flag(self) -> str:
        """What to type after ``tmax`` to mean this swarm, for hints: empty, or `` --swarm S``."""
        return "" if self.layout.swarm == "default" else f" --swarm {self.layout.swarm}"

    def look(self) -> dict[str, Any]:
        """Return the fields that ask for text that suits our stdout."""
        terminal = os.isatty(1)
        width = os.get_terminal_size(1).columns if terminal and not self.plain else 0
        wanted = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        color = self.color == "always" or (self.color == "auto" and wanted and not self.plain)
        return {"text": True, "width": width, "color": color}

    def talk(self, text: str) -> None:
        """Tell a person something on stderr; nothing where no person reads it, or with ``--quiet``."""
        if not self.quiet and not self.json and os.isatty(2):
            warn(text)


def out(text: str) -> None:
    """Write text to stdout as UTF-8, all of it."""
    out_bytes(text.encode("utf-8", "surrogateescape"))


def out_bytes(data: bytes) -> None:
    """Write bytes to stdout, all of them.  Raises OutputError when they cannot be written, BrokenPipeError when their reader is gone."""
    try:
        write_all(1, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error) from error


def output_error(error: OSError) -> OutputError:
    """Return the error of a stdout that cannot be written."""
    if error.errno == _EBADF:
        return OutputError("cannot write to standard output: it is closed", hint="send it to a file, a pipe or /dev/null")
    return OutputError(f"cannot write to standard output: {error.strerror}")


def occupy_standard_descriptors() -> None:
    """Put something in the place of a standard descriptor that is closed, or the next file or socket opened would be taken for it.

    What reads finds the end of the file; what is written to stdout fails as it does with a closed one; stderr swallows all.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is this one: those below are taken by now.
            os.set_inheritable(os.open(os.devnull, os.O_WRONLY if fd == _STDERR else os.O_RDONLY), True)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, also to a descriptor that somebody else made non-blocking."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            import select

            select.select([], [fd], [])


def value(thing: object) -> None:
    """Write one JSON value to stdout, on one line."""
    out(encode(thing) + "\n")


def warn(text: str) -> None:
    """Write a line to stderr; what a terminal would obey is taken out of it.  A closed stderr is nobody's loss."""
    try:
        write_all(2, harmless(text).encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # nobody reads it


def harmless(text: str) -> str:
    r"""Return ``text`` with control characters other than line ends and tabs made visible (``\x1b``)."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def fault(error: TmaxError, *, json: bool = False) -> int:
    """Report an error in our two lines (or as JSON) on stderr; return its exit code."""
    if json:
        told: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        warn(encode({"error": told}))
    else:
        warn(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
    return int(error.exit_code)


def pipe_gone() -> int:
    """Whoever read our output went away: keep the interpreter from complaining as it ends; return the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return PIPE_GONE


def iso(seconds: float | None) -> str | None:
    """Return UTC epoch seconds as ISO 8601 text with milliseconds; None for never (0 or None)."""
    if not seconds:
        return None
    import time

    whole, ms = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{ms:03}Z"


def with_iso(thing: Any) -> Any:
    """Return plain data with its times as ISO text: the one place where JSON output turns them."""
    if isinstance(thing, dict):
        return {key: iso(one) if key in _TIMES else with_iso(one) for key, one in thing.items()}
    if isinstance(thing, list):
        return [with_iso(one) for one in thing]
    return thing


class List:
    """A JSON value with one list in it, written part by part as its rows come: nobody holds a hundred thousand of them."""

    def __init__(self, key: str) -> None:
        self._before = f'{{"schema_version": {SCHEMA_VERSION}, "{key}": ['

    def add(self, rows: list[Any]) -> None:
        """Write some rows."""
        if rows:
            out(self._before + encode(with_iso(rows))[1:-1])
            self._before = ", "

    def end(self) -> None:
        """Write what closes the value."""
        out((self._before if self._before != ", " else "") + "]}\n")


def bug(error: BaseException, *, json: bool = False) -> int:
    """Report an error that nobody foresaw in two lines; return the exit code."""
    return fault(
        TmaxError(f"{type(error).__name__}: {error}", "this is a fault of tmax: run it again with --debug and report it"), json=json
    )
