"""The structs that carry a task's options, made from the table in ``task_options.py``.

``TaskOptions``   what holds for an accepted task; a value that is the default takes no bytes
``GivenOptions``  what a submitter gave; a field that was not given is ``msgspec.UNSET`` and takes no bytes

msgspec leaves a struct out of its parent only where it is the very default instance: hand on ``DEFAULT_OPTIONS`` and ``NOTHING_GIVEN``,
not structs that equal them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tmax_pipes import task_options

if TYPE_CHECKING:

    class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
        """As made below, for type checkers; a test compares the two."""

        name: str = ""
        priority: Literal["low", "normal", "high", "critical"] = "normal"
        timeout_s: float = 0.0
        grace_s: float = 10.0
        retries: int = 0
        deliveries: int = 3
        delivery: Literal["at-least-once", "at-most-once"] | None = None

    class GivenOptions(msgspec.Struct, frozen=True, kw_only=True):
        """As made below; its fields are read by name from the table."""

        def __init__(self, **given: Any) -> None: ...

else:
    _TYPES = {"seconds": float, "count": int, "name": str, "flag": bool}

    def _type_of(option: task_options.TaskOption) -> Any:
        made = Literal[option.choices] if option.type == "choice" else _TYPES[option.type]
        return made | None if option.default is None else made

    def _made(name: str, doc: str, fields: list[tuple[str, Any, Any]]) -> type[msgspec.Struct]:
        # No field can refer back to its struct, so the garbage collector need not look at them.
        namespace = {"__doc__": doc}
        return msgspec.defstruct(
            name, fields, namespace=namespace, module=__name__, frozen=True, omit_defaults=True, kw_only=True, gc=False
        )

    _OPTIONS = task_options.of_owner("task")
    TaskOptions = _made("TaskOptions", "The options of an accepted task.", [(one.name, _type_of(one), one.default) for one in _OPTIONS])
    # The words of a choice are checked at intake, which names the task; here a wrong one would end the whole connection.
    GivenOptions = _made(
        "GivenOptions",
        "The options that a submitter gave.",
        [(one.name, _TYPES.get(one.type, str) | msgspec.UnsetType, msgspec.UNSET) for one in _OPTIONS],
    )

DEFAULT_OPTIONS = TaskOptions()
"""Shared by every task that has no option of its own."""
NOTHING_GIVEN = GivenOptions()
"""Shared by every request without options."""


def given_values(given: GivenOptions) -> dict[str, Any]:
    """Return the options that were given, by name."""
    return {name: value for name, value in msgspec.structs.asdict(given).items() if value is not msgspec.UNSET}


def options_with(values: Mapping[str, Any]) -> TaskOptions:
    """Return the struct with these values; the shared one where all are defaults.

    msgspec leaves a field out only where its value is the very default object, so a number that merely equals it is not handed on.
    """
    others = {name: value for name, value in values.items() if value != getattr(DEFAULT_OPTIONS, name)}
    return TaskOptions(**others) if others else DEFAULT_OPTIONS


def shared_default(options: TaskOptions) -> TaskOptions:
    """Return ``options``, or the shared instance that equals it."""
    return DEFAULT_OPTIONS if options == DEFAULT_OPTIONS else options
