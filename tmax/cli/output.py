"""What every verb shares: its common options, and how it prints.  Data on stdout, messages on stderr."""

from __future__ import annotations

import os

from tmax.cli.codec import encode
from tmax.errors import OutputError, TmaxError
from tmax.layout import Layout, locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA_VERSION = 1
READER_LEFT = 141
"""Exit code when the reader of stdout has left: what a shell reports of a program ended by SIGPIPE."""

_STDERR = 2
_EBADF = 9
"""``errno.EBADF`` without importing errno."""
_TIMES = frozenset({"at", "started_at", "submitted_at", "ended_at", "task_since"})


class Common:
    """The values of the options that every verb has."""

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
        """The folders of the chosen swarm: ``--swarm``, else TMAX_SWARM, else ``default``.  Raises UsageError, FolderError."""
        if self._layout is None:
            self._layout = locate(os.environ.get("TMAX_SWARM") or "default" if self.swarm is None else self.swarm)
        return self._layout

    @property
    def flag(self) -> str:
        """The option that selects this swarm in a hint, with a space before it; empty for the default swarm."""
        return "" if self.layout.swarm == "default" else f" --swarm {self.layout.swarm}"

    def text_format(self) -> dict[str, Any]:
        """Return the request fields that make the controller format text for stdout: its width and whether it shows colour."""
        terminal = os.isatty(1)
        width = os.get_terminal_size(1).columns if terminal and not self.plain else 0
        wanted = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        color = self.color == "always" or (self.color == "auto" and wanted and not self.plain)
        return {"text": True, "width": width, "color": color}

    def notify(self, text: str) -> None:
        """Write a message to stderr if it is a terminal; nothing with ``--quiet`` or ``--json``."""
        if not self.quiet and not self.json and os.isatty(2):
            write_message(text)


def write(text: str) -> None:
    """Write text to stdout as UTF-8.  Raises as ``write_bytes``."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout.  Raises OutputError when they cannot be written, BrokenPipeError when the reader has left."""
    try:
        write_all(1, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error) from error


def output_error(error: OSError) -> OutputError:
    """Return the error for a stdout that cannot be written."""
    if error.errno == _EBADF:
        return OutputError("cannot write to standard output: it is closed", hint="redirect it to a file, a pipe or /dev/null")
    return OutputError(f"cannot write to standard output: {error.strerror}")


def open_missing_descriptors() -> None:
    """Open /dev/null on each closed standard descriptor, so that no file or socket opened later gets its number.

    Reading from stdin then returns end of file, writing to stdout fails as with a closed descriptor, writing to stderr is discarded.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # open() returns the lowest free number, which is this one: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_WRONLY if fd == _STDERR else os.O_RDONLY), True)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; waits where another process has made the descriptor non-blocking."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            import select

            select.select([], [fd], [])


def write_json(value: object) -> None:
    """Write one JSON value to stdout, on one line."""
    write(encode(value) + "\n")


def write_message(text: str) -> None:
    """Write a line to stderr with control characters escaped; a stderr that cannot be written is ignored."""
    try:
        write_all(2, escaped(text).encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # there is no other place to report it


def escaped(text: str) -> str:
    r"""Return ``text`` with control characters other than line ends and tabs escaped (``\x1b``)."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def report_error(error: TmaxError, *, json: bool = False) -> int:
    """Write an error to stderr, as two lines ``error:`` and ``hint:`` or as JSON; return its exit code."""
    if json:
        write_message(encode({"error": {"code": error.code, "message": error.message, "hint": error.hint}}))
    else:
        write_message(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
    return int(error.exit_code)


def reader_left() -> int:
    """Redirect stdout to /dev/null, so that the interpreter's last flush raises no second BrokenPipeError; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return READER_LEFT


def iso(seconds: float | None) -> str | None:
    """Return UTC epoch seconds as ISO 8601 text with milliseconds; None for never (0 or None)."""
    if not seconds:
        return None
    import time

    whole, ms = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{ms:03}Z"


def with_iso_times(value: Any) -> Any:
    """Return plain data with its times, epoch seconds in the fields of ``_TIMES``, as ISO 8601 text."""
    if isinstance(value, dict):
        return {key: iso(one) if key in _TIMES else with_iso_times(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_iso_times(one) for one in value]
    return value


class JsonList:
    """A JSON object with one list in it, written to stdout row by row, so that 100,000 rows are never held in memory."""

    def __init__(self, key: str) -> None:
        self._before = f'{{"schema_version": {SCHEMA_VERSION}, "{key}": ['

    def add(self, rows: list[Any]) -> None:
        """Write some rows."""
        if rows:
            write(self._before + encode(with_iso_times(rows))[1:-1])
            self._before = ", "

    def end(self) -> None:
        """Close the list and the object."""
        write((self._before if self._before != ", " else "") + "]}\n")


def report_bug(error: BaseException, *, json: bool = False) -> int:
    """Write an unexpected exception to stderr as an error of tmax; return the exit code."""
    hint = "this is a bug in tmax: run the command again with --debug and report the traceback"
    return report_error(TmaxError(f"{type(error).__name__}: {error}", hint), json=json)
