"""The options of a task on the command line; ``submit``, ``run`` and ``kernel`` take them from here."""

from __future__ import annotations

from tmax.cli.arguments import count, one_of, positive, seconds
from tmax.cli.declaration import Option
from tmax.errors import UsageError


def task_name(text: str) -> str:
    """Return a name that a task may have.  Raises UsageError."""
    from tmax.core.names import check_task_name  # several imports, needed only when a task is named

    return check_task_name(text)


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


TASK_FLAGS: tuple[Option, ...] = (
    Option("name", "--name", read=task_name, metavar="X", help="Name by which other verbs find the task."),
    Option(
        "priority",
        "--priority",
        "-p",
        read=one_of("low", "normal", "high", "critical"),
        metavar="LEVEL",
        help="Place in the queue: low, normal, high or critical.",
        default="normal",
    ),
    Option(
        "timeout_s",
        "--timeout",
        read=seconds,
        metavar="TIME",
        help="End the task after this run time: seconds, or 250ms, 30s, 30m, 1h30m, 2d; 0: no limit.",
        default="0",
    ),
    Option(
        "grace_s",
        "--grace",
        read=seconds,
        metavar="TIME",
        help="Time between TERM and KILL when the task is cancelled or timed out.",
        default="setting tasks.grace_s (10 s)",
    ),
    Option(
        "retries",
        "--retries",
        read=count,
        metavar="N",
        help="Run the task again up to N times when it fails.",
        default="setting tasks.retries (0)",
    ),
    Option(
        "deliveries",
        "--deliveries",
        read=positive,
        metavar="N",
        help="Number of worker deaths, 1 or more, after which the task is dead.  For a command this also permits running it again.",
        default="setting tasks.deliveries (3)",
    ),
    Option(
        "delivery",
        "--delivery",
        read=one_of("at-least-once", "at-most-once"),
        metavar="HOW",
        help="When its worker dies, run the task again (at-least-once) or not (at-most-once).",
        default="at-most-once for commands",
    ),
    Option(
        "request_id",
        "--request-id",
        read=request_id,
        metavar="R",
        help="Key that makes a repeated submit harmless: the same R returns the first task.",
        default="random",
    ),
    Option("split", "--split", help="Give the command two pipes for stdout and stderr instead of one terminal."),
    Option(
        "keep_background",
        "--keep-background",
        help="Let processes that the task leaves behind run on; otherwise they are ended, at the latest 1 s later.",
    ),
    Option("fresh", "--fresh", help="Run the task in a new worker process that runs nothing else."),
    Option(
        "py",
        "--py",
        read=function_name,
        metavar="MODULE:FUNCTION",
        help="Call this function.  Words are JSON arguments, KEY=JSON keywords; - reads one JSON argument from stdin.",
    ),
)

_KERNEL_OPTIONS = frozenset({"timeout_s", "priority"})
KERNEL_FLAGS: tuple[Option, ...] = tuple(option for option in TASK_FLAGS if option.name in _KERNEL_OPTIONS)
"""Those that a kernel accepts."""
