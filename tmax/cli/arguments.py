"""The options of the hot verbs, in one small table, and how they are read.  Pure.

``main.py`` builds typer's options of the same verbs by hand, so that they have help; a test holds the two equal.
Whatever is not understood here is left to typer, which also knows how to complain.
"""

from __future__ import annotations

from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""A unit that begins like another stands before it."""
MAX_SECONDS = 1_000_000_000
"""The longest duration that a controller takes: about 30 years."""
MAX_COUNT = 2**63 - 1
"""The largest number that a store and a message hold."""


def seconds(text: str) -> float:
    """Return seconds from ``90``, ``1.5``, ``30s``, ``250 ms``, ``30m``, ``1h30m``, ``2d``.  Raises UsageError."""
    total, rest = 0.0, text.strip(" ")
    try:
        while True:
            number = _number(rest)
            rest = rest[len(number) :].lstrip(" ")
            if not rest:
                total += float(number)
                break
            unit = next(unit for unit in _UNITS if rest.startswith(unit))
            total += float(number) * _UNITS[unit]
            rest = rest[len(unit) :].lstrip(" ")
            if not rest:
                break
    except (StopIteration, ValueError):
        raise UsageError(f"{text!r} is not a duration", hint="for example: 90, 1.5, 30s, 30m, 1h30m, 2d") from None
    if total > MAX_SECONDS:
        raise UsageError(f"{text!r} is too long: a duration has at most {MAX_SECONDS} seconds ({MAX_SECONDS // 86400} days)")
    return total


def _number(text: str) -> str:
    """Return the digits and points that ``text`` begins with."""
    at = 0
    while at < len(text) and text[at] in "0123456789.":
        at += 1
    return text[:at]


def count(text: str) -> int:
    """Return a whole number from 0.  Raises UsageError."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is not a whole number from 0")
    if len(text.lstrip("0")) > len(str(MAX_COUNT)) or int(text) > MAX_COUNT:
        raise UsageError(f"{text if len(text) <= 40 else text[:37] + '...'} is too large: at most {MAX_COUNT}")
    return int(text)


def positive(text: str) -> int:
    """Return a whole number from 1.  Raises UsageError."""
    if not (text.isascii() and text.isdigit()) or not text.strip("0"):
        raise UsageError(f"{text!r} is not a whole number from 1")
    return count(text)


def task_name(text: str) -> str:
    """Return a name that a task may have.  Raises UsageError."""
    from tmax.core.names import check_task_name  # only who names a task pays for it

    return check_task_name(text)


def request_id(text: str) -> str:
    """Return a request id.  Raises UsageError for an empty one, which a variable that was never set makes: it would guard against nothing."""
    if not text:
        raise UsageError("a request id is not empty")
    return text


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a reader of one of these words; it raises UsageError."""

    def read(text: str) -> str:
        if text not in allowed:
            raise UsageError(f"{text!r} is not one of: {', '.join(allowed)}")
        return text

    return read


priority = one_of("low", "normal", "high", "critical")
delivery = one_of("at-least-once", "at-most-once")
color = one_of("auto", "always", "never")
STATES = ("waiting", "ready", "sent", "running", "done", "failed", "dead", "cancelled", "interrupted")
"""The ends are those of ``tmax.task_end``, which no submit shall import (a test compares them)."""
_state = one_of(*STATES)


def states(text: str) -> str:
    """Return a list of states with commas between them, as it was given.  Raises UsageError."""
    for one in text.split(","):
        _state(one)
    return text


class Option:
    """One option: where its value goes, how it is written, how its text is read (None: it takes no text)."""

    __slots__ = ("flags", "name", "read")

    def __init__(self, name: str, *flags: str, read: Callable[[str], Any] | None = None) -> None:
        self.name = name
        self.flags = flags
        self.read = read


class Verb:
    """A hot verb: ``module:function``, its own options, and how many words it takes.

    ``words``: ``none``, ``one``, ``some`` (one or more), ``maybe`` (none or one), or ``rest``: options end at the first word.
    """

    __slots__ = ("call", "options", "words")

    def __init__(self, call: str, words: str, *options: Option) -> None:
        self.call = call
        self.words = words
        self.options = options


COMMON = (
    Option("swarm", "--swarm", read=str),
    Option("json", "--json"),
    Option("quiet", "-q", "--quiet"),
    Option("debug", "--debug"),
    Option("plain", "--plain"),
    Option("color", "--color", read=color),
)

SUBMIT = (
    Option("name", "--name", read=task_name),
    Option("priority", "--priority", "-p", read=priority),
    Option("timeout_s", "--timeout", read=seconds),
    Option("grace_s", "--grace", read=seconds),
    Option("retries", "--retries", read=count),
    Option("deliveries", "--deliveries", read=count),
    Option("delivery", "--delivery", read=delivery),
    Option("request_id", "--request-id", read=request_id),
    Option("split", "--split"),
    Option("keep_background", "--keep-background"),
    Option("fresh", "--fresh"),
    Option("py", "--py", read=str),
)

INIT = (
    Option("workers", "--workers", "-n", read=count),
    Option("pool", "--pool", read=count),
    Option("preload", "--preload", read=str),
    Option("python", "--python", read=str),
    Option("engine", "--engine", read=str),
    Option("attach", "--attach"),
)

VERBS = {
    # Not asked often, but waited for: typer alone would be a fifth of an init.
    "init": Verb("tmax.cli.init:init", "none", *INIT),
    "up": Verb("tmax.cli.init:init", "none", *INIT),
    "down": Verb("tmax.cli.down:down", "none", Option("now", "--now"), Option("dry_run", "--dry-run")),
    "status": Verb("tmax.cli.status:status", "none"),
    "ps": Verb(
        "tmax.cli.status:ps",
        "none",
        Option("every", "-a", "--all"),
        Option("state", "--state", read=states),
        Option("failed", "--failed"),
        Option("limit", "--limit", "-l", read=count),
    ),
    "submit": Verb("tmax.cli.submit:submit", "rest", *SUBMIT),
    "run": Verb("tmax.cli.run:run", "rest", *SUBMIT),
    "wait": Verb(
        "tmax.cli.ends:wait",
        "some",
        Option("timeout_s", "--timeout", read=seconds),
        Option("fail_fast", "--fail-fast"),
        Option("ignore_failures", "--ignore-failures"),
    ),
    "result": Verb("tmax.cli.ends:result", "one"),
    "cancel": Verb("tmax.cli.ends:cancel", "some", Option("dry_run", "--dry-run")),
    "logs": Verb("tmax.cli.logs:logs", "one", Option("follow", "-f", "--follow")),
    "attach": Verb("tmax.cli.reach:attach", "maybe", Option("read_only", "-r", "--read-only")),
}

_WORDS = {"none": (0, 0), "one": (1, 1), "some": (1, 1 << 30), "maybe": (0, 1), "rest": (0, 1 << 30)}


class Parsed:
    """What was typed: the verb, the common options, its own, and its words.  Options that were not given are not there."""

    __slots__ = ("common", "own", "verb", "words")

    def __init__(self) -> None:
        self.verb = ""
        self.common: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.words: list[str] = []


def parse(argv: Sequence[str]) -> Parsed | None:
    """Read a hot verb's line; None: it is for typer (another verb, help, an unknown option, a wrong number of words).

    Raises UsageError for a value that is not allowed.
    """
    parsed = Parsed()
    known = {flag: (option, parsed.common) for option in COMMON for flag in option.flags}
    at = _options(argv, 0, known, parsed, stop=True)
    if at is None:
        return None
    parsed.verb = argv[at] if at < len(argv) else "status"
    verb = VERBS.get(parsed.verb)
    if verb is None:
        return None
    known |= {flag: (option, parsed.own) for option in verb.options for flag in option.flags}
    if _options(argv, at + 1, known, parsed, stop=verb.words == "rest", words=True) is None:
        return None
    least, most = _WORDS[verb.words]
    return parsed if least <= len(parsed.words) <= most else None


def _options(
    argv: Sequence[str], at: int, known: dict[str, tuple[Option, dict[str, Any]]], parsed: Parsed, *, stop: bool, words: bool = False
) -> int | None:
    """Read options (and words) from ``at``; return where it stopped, or None for what is not understood here."""
    while at < len(argv):
        word = argv[at]
        if words and (word == "--" or (stop and (word == "-" or not word.startswith("-")))):
            parsed.words += argv[at + (word == "--") :]
            return len(argv)
        if word == "-" or not word.startswith("-"):
            if not words:
                return at
            parsed.words.append(word)
            at += 1
            continue
        flag, equals, text = word.partition("=")
        option, values = known.get(flag, (None, {}))
        if option is None or (equals and (option.read is None or not flag.startswith("--"))):
            return None
        if option.read is None:
            values[option.name] = True
        elif equals or at + 1 < len(argv):
            values[option.name] = read_value(option.read, flag, text if equals else argv[at + 1])
            at += not equals
        else:
            return None
        at += 1
    return at


def read_value(read: Callable[[str], Any], flag: str, text: str) -> Any:
    """Return what ``read`` makes of the text of an option.  Raises UsageError that names the option."""
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error.message}", error.hint) from None
