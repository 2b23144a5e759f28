"""What a worker's state remembers of messages: which tasks it has taken in, and wishes about tasks that have not come yet."""

from __future__ import annotations

from tmax_pipes.jobs import context_key
from tmax_pipes.messages import Key, Recall, Run, Stop

EARLY_COUNT = 256


class AcceptedTasks:
    """What was taken in, and so what else may run in this process; the controller knows this too, unless it was replaced."""

    def __init__(self) -> None:
        self.context = ""
        """Of the Python tasks that run here (``tmax_pipes.jobs.context_key``); empty: none was taken in yet."""
        self._has_taken = False
        self._exclusive = False
        """A task that wanted a process of its own was taken in: nothing may run here after it."""

    def fits(self, run: Run) -> bool:
        """Return whether this process may run a task after those it has taken in, and take it in."""
        if not run.task:
            return True
        key = context_key(run.job)
        if self._exclusive or (run.job.fresh and self._has_taken) or (key and self.context and key != self.context):
            return False
        self._has_taken, self._exclusive = True, run.job.fresh
        self.context = self.context or key
        return True


class EarlyRequests:
    """Wishes about tasks that are still on their way: between the two lanes there is no order."""

    def __init__(self) -> None:
        self._requests: dict[Key, Recall | Stop] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def remember(self, key: Key, message: Recall | Stop) -> None:
        """Keep a wish; the oldest one is forgotten when there are too many."""
        self._requests[key] = message
        if len(self._requests) > EARLY_COUNT:
            del self._requests[next(iter(self._requests))]

    def take(self, key: Key) -> Recall | Stop | None:
        """Return the wish about this attempt, if there is one, and forget it."""
        return self._requests.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._requests.clear()


def is_about(run: Run, task: int, attempt: int) -> bool:
    """Return whether a message about this task and attempt is about ``run``; ``attempt`` 0 fits any."""
    return run.task == task and attempt in {0, run.attempt}
