"""The tasks that words select: ``7``, ``3-9``, ``@``, ``@~2``, a name."""

from __future__ import annotations

from tmax.cli.request import request
from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmax.layout import Layout

TASK_HELP = "TASK: an id (7), @ (the last task), @~2 (two before it), or a name."
TASKS_HELP = "TASK: an id (7), a range (3-7), @ (the last task), @~2 (two before it), or a name."


def task_ids(layout: Layout, words: Sequence[str], reply_timeout_s: float | None = None) -> list[int]:
    """Return the ids that ``words`` select, in order and without repeats.  Raises NotFound, UsageError.

    Only words that are not plain ids cost a request; ``reply_timeout_s``: see ``request``.
    """
    numbers = [int(word) if word.isascii() and word.isdigit() and len(word) < 16 else 0 for word in words]
    if all(numbers):
        return list(dict.fromkeys(numbers))
    ids: list[int] = request(layout, "select", reply_timeout_s, selectors=list(words))["ids"]
    return ids


def one_task_id(layout: Layout, word: str) -> int:
    """Return the id of the one task that ``word`` selects.  Raises NotFound, and UsageError when it selects several."""
    found = task_ids(layout, [word])
    if len(found) != 1:
        raise several_selected(word, len(found))
    return found[0]


def several_selected(word: str, count: int) -> UsageError:
    """Return the error for a word that selects ``count`` tasks where one is needed."""
    return UsageError(f"{word} selects {count} tasks", hint="give one task, for example its id")
