"""The entry.

    argv --> a hot verb, understood? --yes--> import its one file, call it, print
               no --> main.py (typer): every other verb, help, mistakes

A hot verb must start in hardly more than a bare interpreter: this file and what it imports use the standard library only,
and of it only what costs nothing (no ``json``, ``re``, ``enum``, ``dataclasses``, ``typing``, ``socket``); a test holds the list.
"""

from __future__ import annotations

import os
import sys

from tmax.cli import arguments, output
from tmax.errors import ExitCode, TmaxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing but an exit code leaves here.

    Without ``argv`` this is the whole process, and it ends here: tearing an interpreter down takes a sixth of its life.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        output.occupy_standard_descriptors()
    code = guarded(lambda: _run(words), json="--json" in _before_dashes(words), debug="--debug" in _before_dashes(words))
    if argv is None:
        _leave(code)
    return code


def _leave(code: int) -> None:
    try:
        sys.stdout.flush()  # our own words went out unbuffered; this is for whatever else printed
    except (AttributeError, OSError):
        pass  # closed, or never there
    os._exit(code)


def _before_dashes(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words


def _run(words: list[str]) -> int:
    parsed = arguments.parse(words)
    if parsed is None:
        from tmax.cli.main import run

        return run(words)
    return call(parsed)


def call(parsed: arguments.Parsed) -> int:
    """Call the function of a hot verb with what was typed."""
    verb = arguments.VERBS[parsed.verb]
    module, _, name = verb.call.partition(":")
    __import__(module)  # importlib is one import more
    function: Callable[..., int] = getattr(sys.modules[module], name)
    common = output.Common(**parsed.common)
    if verb.words == "none":
        return function(common, **parsed.own)
    return function(common, parsed.words, **parsed.own)


def guarded(work: Callable[[], int], *, json: bool, debug: bool) -> int:
    """Do it; turn whatever goes wrong into two lines and an exit code."""
    try:
        return work()
    except (KeyboardInterrupt, Exception) as error:  # the last line of defence: nobody gets a traceback unasked
        if debug:
            import traceback

            output.warn("".join(traceback.format_exception(error)).rstrip("\n"))
        return _reported(error, json=json)


def _reported(error: BaseException, *, json: bool) -> int:
    if isinstance(error, TmaxError):
        return output.fault(error, json=json)
    if isinstance(error, KeyboardInterrupt):
        return int(ExitCode.INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        return output.pipe_gone()
    return output.bug(error, json=json)
