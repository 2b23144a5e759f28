"""The options of a task, defined once: one row of ``OPTIONS`` for each.

::

    OPTIONS --> structs (options_struct.py): in requests, tasks, rows of the store and Run frames
            --> readers of text and checkers of values (tmax/core/option_values.py)
            --> flags and help of the command line, fields of JSON requests, keywords of the Python API, columns of ``result --json``,
                the table in docs/task-options.md

An option that belongs to the task needs a row here and the code that obeys it.  One that belongs to the job
(``owner="job"``) needs a field of the job's struct as well (``jobs.py``): the worker reads it there.
A row's ``default`` is left out of rows and frames, so another default changes what stored tasks mean: it needs a migration.

Commands import this file on their fast path: plain classes, no imports.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

MAX_SECONDS = 1_000_000_000
"""The longest duration that a controller takes: about 30 years, short enough for every clock call."""
MAX_COUNT = 2**31
"""The largest number of retries or deliveries."""

KINDS = ("kernel", "python", "shell")
"""Of tasks; as ``jobs.kind_of`` returns them."""


class TaskOption:
    """One option.

    ``name``: field of the struct and of JSON.  ``flags``: on the command line.  ``keyword``: of ``Swarm.options`` (empty: none).
    ``type``: how text is read and a value checked: ``seconds``, ``count``, ``choice``, ``name``, ``flag``.
    ``least``, ``most``: bounds of a number, both included.  ``choices``: the words of a choice.
    ``default``: what holds where nothing is given; None: it depends on the kind, as ``default_text`` explains.
    ``setting``: the setting of the group ``tasks`` that goes before ``default`` (a flag is on where either is on); empty: none.
    ``owner``: ``task`` (read by the scheduler) or ``job`` (read by the worker).  ``kinds``: the kinds of task it applies to.
    ``keyword_values``: what the keyword's values stand for, where they are not the option's own.
    """

    __slots__ = (
        "choices",
        "default",
        "default_text",
        "flags",
        "help",
        "keyword",
        "keyword_values",
        "kinds",
        "least",
        "metavar",
        "most",
        "name",
        "owner",
        "setting",
        "type",
    )

    def __init__(
        self,
        name: str,
        *flags: str,
        type: Literal["seconds", "count", "choice", "name", "flag"],  # noqa: A002 - the word of the field
        default: Any,
        help: str,  # noqa: A002 - as argparse and typer call it
        metavar: str = "",
        keyword: str = "",
        keyword_values: Mapping[Any, Any] | None = None,
        least: int = 0,
        most: int = 0,
        choices: tuple[str, ...] = (),
        setting: str = "",
        default_text: str = "",
        owner: Literal["task", "job"] = "task",
        kinds: tuple[str, ...] = KINDS,
    ) -> None:
        self.name = name
        self.flags = flags
        self.type = type
        self.default = default
        self.help = help
        self.metavar = metavar
        self.keyword = keyword
        self.keyword_values = keyword_values
        self.least = least
        self.most = most
        self.choices = choices
        self.setting = setting
        self.default_text = default_text
        self.owner = owner
        self.kinds = kinds

    @property
    def range_text(self) -> str:
        """The values it takes, in words; empty for a flag."""
        if self.type == "seconds":
            return f"{self.least} to {self.most} s"
        if self.type == "count":
            return f"{self.least} to {self.most}"
        return ", ".join(self.choices) if self.type == "choice" else "up to 200 characters" if self.type == "name" else ""

    @property
    def default_shown(self) -> str:
        """The default, in words, with the setting that goes before it; empty where nothing is the default."""
        shown = self.default_text
        if not shown and self.default not in ("", None, False):
            shown = f"{self.default:g} s" if self.type == "seconds" else str(self.default)
        if not self.setting:
            return shown
        return f"setting tasks.{self.setting} ({shown or ('off' if self.type == 'flag' else self.default)})"

    @property
    def help_with_range(self) -> str:
        """What it does, and which values it takes."""
        return f"{self.help} ({self.range_text})" if self.range_text else self.help

    @property
    def help_text(self) -> str:
        """The help of its flag: what it does, which values it takes, its default."""
        default = f" [default: {self.default_shown}]" if self.default_shown else ""
        return f"{self.help_with_range}{default}."


OPTIONS: tuple[TaskOption, ...] = (
    TaskOption("name", "--name", type="name", default="", keyword="name", metavar="X", help="Name to find the task by"),
    TaskOption(
        "priority",
        "--priority",
        "-p",
        type="choice",
        choices=("low", "normal", "high", "critical"),
        default="normal",
        keyword="priority",
        metavar="LEVEL",
        help="Place in the queue",
    ),
    TaskOption(
        "timeout_s",
        "--timeout",
        type="seconds",
        most=MAX_SECONDS,
        default=0.0,
        default_text="no limit",
        keyword="timeout",
        metavar="TIME",
        help="End the task after this time: 90, 30s, 30m, 1h30m; 0: no limit",
    ),
    TaskOption(
        "grace_s",
        "--grace",
        type="seconds",
        most=MAX_SECONDS,
        default=10.0,
        setting="grace_s",
        keyword="grace",
        metavar="TIME",
        help="Time between the request to end (TERM, or an exception in Python) and KILL",
    ),
    TaskOption(
        "retries",
        "--retries",
        type="count",
        most=MAX_COUNT,
        default=0,
        setting="retries",
        keyword="retries",
        metavar="N",
        help="Run the task again, up to N times, when it fails",
    ),
    TaskOption(
        "deliveries",
        "--deliveries",
        type="count",
        least=1,
        most=MAX_COUNT,
        default=3,
        setting="deliveries",
        keyword="deliveries",
        metavar="N",
        help="Worker deaths after which the task is dead; for a command it also permits re-running",
    ),
    TaskOption(
        "delivery",
        "--delivery",
        type="choice",
        choices=("at-least-once", "at-most-once"),
        default=None,
        default_text="at-least-once for functions and kernels, at-most-once for commands",
        keyword="idempotent",
        keyword_values={True: "at-least-once", False: "at-most-once"},
        metavar="HOW",
        help="Whether a task that had started runs again after its worker died",
    ),
    TaskOption(
        "split",
        "--split",
        type="flag",
        default=False,
        owner="job",
        kinds=("shell",),
        help="Two pipes for stdout and stderr instead of one terminal",
    ),
    TaskOption(
        "keep_background",
        "--keep-background",
        type="flag",
        default=False,
        setting="keep_background",
        keyword="keep_background",
        owner="job",
        help="Processes that the task leaves running keep running; without it they end with the task, after a second at most",
    ),
    TaskOption(
        "fresh",
        "--fresh",
        type="flag",
        default=False,
        setting="fresh",
        keyword="fresh",
        owner="job",
        help="Run in a worker process that has run nothing before, and runs nothing afterwards",
    ),
)
"""Every option of a task, in the order of the help."""


def implied(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the options that follow from those given, for a task of this kind.

    ``deliveries`` of a command: who permits several worker deaths permits running the command again.
    """
    if kind == "shell" and "deliveries" in given and "delivery" not in given:
        return {"delivery": "at-least-once"}
    return {}


def of_owner(owner: str) -> tuple[TaskOption, ...]:
    """Return the options that belong to the ``task`` or to the ``job``."""
    return tuple(option for option in OPTIONS if option.owner == owner)


def by_keyword() -> dict[str, TaskOption]:
    """Return the options that ``Swarm.options`` takes, by keyword."""
    return {option.keyword: option for option in OPTIONS if option.keyword}
