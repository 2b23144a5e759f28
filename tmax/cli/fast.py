"""The entry of the command line.

    argv --> parsed by the verb's declaration? --yes--> call its function
                                                no --> typer_app.py: help, combined short options, mistakes

A verb must start in hardly more time than a bare interpreter: this file and what it imports use only those parts of the standard
library that cost nothing (no ``json``, ``re``, ``enum``, ``dataclasses``, ``typing``, ``socket``); a test holds the list.
"""

from __future__ import annotations

import os
import sys

from tmax.cli import output, verbs
from tmax.cli.declaration import parse
from tmax.errors import ExitCode, TmaxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tmax.cli.declaration import CommandLine


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; raises nothing.

    Without ``argv`` this is the whole process, and it exits here: finalising the interpreter takes a sixth of its run time.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        output.open_missing_descriptors()
    own = words[: words.index("--")] if "--" in words else words
    code = report_errors(lambda: _run(words), json="--json" in own, debug="--debug" in own)
    if argv is None:
        _exit(code)
    return code


def _exit(code: int) -> None:
    try:
        sys.stdout.flush()  # tmax writes unbuffered; this is for whatever else printed
    except (AttributeError, OSError):
        pass  # closed, or never opened
    os._exit(code)


def _run(words: list[str]) -> int:
    line = parse(words, verbs.verb_named, verbs.DEFAULT)
    if line is None:
        from tmax.cli import typer_app

        return typer_app.run(words)
    # Exact, unlike the search in ``main``: --json among the words of another command is no option of tmax.
    return report_errors(lambda: call(line), json="json" in line.common, debug="debug" in line.common)


def call(line: CommandLine) -> int:
    """Call the function of a parsed command line's verb; return the exit code."""
    common = output.Common(**line.common)
    if line.verb.words == (0, 0):
        return line.verb.function(common, **line.own)
    return line.verb.function(common, line.words, **line.own)


def report_errors(work: Callable[[], int], *, json: bool, debug: bool) -> int:
    """Call ``work`` and return its exit code; report whatever it raises on stderr and return the error's exit code."""
    try:
        return work()
    except (KeyboardInterrupt, Exception) as error:  # the outermost handler: a traceback is printed only with --debug
        if debug:
            import traceback

            output.write_message("".join(traceback.format_exception(error)).rstrip("\n"))
        if isinstance(error, TmaxError):
            return output.report_error(error, json=json)
        if isinstance(error, KeyboardInterrupt):
            return int(ExitCode.INTERRUPTED)
        if isinstance(error, BrokenPipeError):
            return output.reader_left()
        return output.report_bug(error, json=json)
