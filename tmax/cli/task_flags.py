"""The options of a task on the command line, made from the table of options; ``submit``, ``run`` and ``kernel`` take them from here."""

from __future__ import annotations

from tmax.cli.declaration import Option
from tmax.core.option_values import reader
from tmax.errors import UsageError
from tmax_pipes.task_options import OPTIONS, TaskOption


def request_id(text: str) -> str:
    """Return a request id.  Raises UsageError for an empty one: an unset shell variable makes one, and it would not deduplicate anything."""
    if not text:
        raise UsageError("a request id cannot be empty")
    return text


def function_name(text: str) -> str:
    """Return ``MODULE:FUNCTION``.  Raises UsageError."""
    module, _, function = text.partition(":")
    if not module or not function:
        raise UsageError(f"{text!r} is not MODULE:FUNCTION", hint="for example: tmax submit --py json:dumps '[1, 2]'")
    return text


def _flags_of(option: TaskOption) -> Option:
    return Option(
        option.name,
        *option.flags,
        read=reader(option),
        metavar=option.metavar,
        help=f"{option.help_with_range}.",
        default=option.default_shown,
    )


TASK_FLAGS: tuple[Option, ...] = (
    *(_flags_of(option) for option in OPTIONS if option.flags),
    Option(
        "request_id",
        "--request-id",
        read=request_id,
        metavar="R",
        help="Key that makes a repeated submit harmless: the same R returns the first task.",
        default="random",
    ),
    Option(
        "py",
        "--py",
        read=function_name,
        metavar="MODULE:FUNCTION",
        help="Call this function.  Words are JSON arguments, KEY=JSON keywords; - reads one JSON argument from stdin.",
    ),
)
"""Of ``submit`` and ``run``.  The values go into the fields of the same names of a submit request."""

KERNEL_FLAGS: tuple[Option, ...] = tuple(_flags_of(option) for option in OPTIONS if option.flags and "kernel" in option.kinds)
"""Of ``kernel``."""
