"""How a verb is declared, and how a command line is parsed by its declaration.

The fast path parses with ``parse``; ``typer_app.py`` generates its commands from the same declarations, so both accept the same lines.
Whatever ``parse`` does not understand is left to typer, which prints help and explains mistakes.
"""

from __future__ import annotations

from tmax.core.option_values import one_of
from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


color = one_of("auto", "always", "never")


class Option:
    """One option: the keyword its value is passed as, its flags, how its text is read, and its help.

    ``read`` None: a switch, which takes no text.  ``default``: the value used when it is not given, as the help shows it.
    """

    __slots__ = ("default", "flags", "help", "metavar", "name", "read")

    def __init__(
        self,
        name: str,
        *flags: str,
        read: Callable[[str], Any] | None = None,
        metavar: str = "",
        help: str,  # noqa: A002 - as typer and argparse name it
        default: str = "",
    ) -> None:
        self.name = name
        self.flags = flags
        self.read = read
        self.metavar = metavar
        self.help = help
        self.default = default

    def read_value(self, flag: str, text: str) -> Any:
        """Return the value that ``text`` means.  Raises UsageError that names ``flag``."""
        assert self.read is not None, "a switch takes no text"
        try:
            return self.read(text)
        except UsageError as error:
            raise UsageError(f"{flag}: {error.message}", error.hint) from None


NO_WORDS = (0, 0)
ONE_WORD = (1, 1)
OPTIONAL_WORD = (0, 1)
ANY_WORDS = (0, 1 << 30)
ONE_OR_MORE_WORDS = (1, 1 << 30)


class Verb:
    """One verb.  ``function(common, [words,] **options)`` does it and returns the exit code.

    ``usage``: the words in the usage line.  ``words``: how many it takes, as (least, most); with ``passes_on`` its options end at
    the first word, and all that follows belongs to another command.  ``examples``: pairs of a command line and what it does.
    """

    __slots__ = ("examples", "function", "help", "name", "options", "passes_on", "usage", "words")

    def __init__(
        self,
        name: str,
        function: Callable[..., int],
        *,
        help: str,  # noqa: A002 - as typer and argparse name it
        examples: tuple[tuple[str, str], ...],
        usage: str = "",
        words: tuple[int, int] = NO_WORDS,
        passes_on: bool = False,
        options: tuple[Option, ...] = (),
    ) -> None:
        self.name = name
        self.function = function
        self.help = help
        self.examples = examples
        self.usage = usage
        self.words = words
        self.passes_on = passes_on
        self.options = options


COMMON_OPTIONS = (
    Option("swarm", "--swarm", read=str, metavar="S", help="Name of the swarm.", default="$TMAX_SWARM, else default"),
    Option("json", "--json", help="Print one JSON value; errors are JSON on stderr."),
    Option("quiet", "-q", "--quiet", help="Print only ids or names, or nothing."),
    Option("debug", "--debug", help="Print the Python traceback when tmax itself fails."),
    Option("plain", "--plain", help="Print without colour and without cutting lines to the terminal's width."),
    Option("color", "--color", read=color, metavar="WHEN", help="When to print in colour: auto, always or never.", default="auto"),
)
"""The options of every verb; they may stand before the verb, too."""

DRY_RUN = Option("dry_run", "--dry-run", help="Print what would be done, and do nothing.")


class CommandLine:
    """A parsed command line: the verb, the common options, the verb's options, and its words.  Holds only options that were given."""

    __slots__ = ("common", "own", "verb", "words")

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.common: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.words: list[str] = []


def parse(argv: list[str], verb_named: Callable[[str], Verb], default_verb: str) -> CommandLine | None:
    """Parse a command line; None when it is for typer: help, an unknown option, combined short options, a wrong number of words.

    ``verb_named`` returns a verb or raises UsageError.  Raises UsageError for an unknown verb and for a value that is missing or not allowed.
    """
    common: dict[str, Any] = {}
    words: list[str] = []
    known = {flag: (option, common) for option in COMMON_OPTIONS for flag in option.flags}
    at = _take_options(argv, 0, known)
    if at is None:
        return None
    line = CommandLine(verb_named(argv[at] if at < len(argv) else default_verb))
    line.common, line.words = common, words
    known |= {flag: (option, line.own) for option in line.verb.options for flag in option.flags}
    if _take_options(argv, at + 1, known, words, passes_on=line.verb.passes_on) is None:
        return None
    least, most = line.verb.words
    return line if least <= len(words) <= most else None


def _take_options(
    argv: list[str],
    at: int,
    known: Mapping[str, tuple[Option, dict[str, Any]]],
    words: list[str] | None = None,
    *,
    passes_on: bool = False,
) -> int | None:
    """Take options from ``at`` on, and words when there is a list for them; return where it stopped, None for an unknown option."""
    while at < len(argv):
        word = argv[at]
        is_word = word == "-" or not word.startswith("-")
        if words is not None and (word == "--" or (passes_on and is_word)):
            words += argv[at + (word == "--") :]
            return len(argv)
        if is_word:
            if words is None:
                return at
            words.append(word)
            at += 1
            continue
        flag, equals, text = word.partition("=")
        option, values = known.get(flag, (None, {}))
        if option is None or (equals and (option.read is None or not flag.startswith("--"))):
            return None
        if option.read is None:
            values[option.name] = True
        elif not equals and argv[at + 1 : at + 2] == ["--"]:
            raise UsageError(f"{flag}: no value given", hint=f"to give -- as the value: {flag}=--" if flag.startswith("--") else "")
        elif equals or at + 1 < len(argv):
            values[option.name] = option.read_value(flag, text if equals else argv[at + 1])
            at += not equals
        else:
            return None
        at += 1
    return at
