"""The options of the hot verbs, in one small table, and how they are read.  Pure.

``main.py`` builds typer's options of the same verbs by hand, so that they have help; a test holds the two equal.
Whatever is not understood here is left to typer, which also knows how to complain.
"""

from __future__ import annotations

from tmax.cli.option import Option
from tmax.cli.task_flags import TASK_FLAGS
from tmax.core.option_values import count, one_of, request_id, seconds
from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

color = one_of("auto", "always", "never")
STATES = ("waiting", "ready", "sent", "running", "done", "failed", "dead", "cancelled", "interrupted")
"""The ends are those of ``tmax.task_end``, which no submit shall import (a test compares them)."""
_state = one_of(*STATES)


def states(text: str) -> str:
    """Return a list of states with commas between them, as it was given.  Raises UsageError."""
    for one in text.split(","):
        _state(one)
    return text


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
    *TASK_FLAGS,
    Option(
        "request_id",
        "--request-id",
        read=request_id,
        metavar="R",
        help="Key of the request: a second submit with the same R returns the first one's task.",
    ),
    Option(
        "py",
        "--py",
        read=str,
        metavar="MODULE:FUNCTION",
        help="Call this function; words are JSON arguments, KEY=JSON keywords, - JSON on stdin.",
    ),
)

INIT = (
    Option("workers", "--workers", "-n", read=count),
    Option("pool", "--pool", read=count),
    Option("preload", "--preload", read=str),
    Option("python", "--python", read=str),
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
