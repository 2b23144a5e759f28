"""Which tasks a worker process may accept, and requests about tasks that have not arrived yet."""

from __future__ import annotations

from tmax_pipes.jobs import context_key
from tmax_pipes.messages import Key, Recall, Run, Stop

EARLY_COUNT = 256


class AcceptedTasks:
    """The tasks accepted so far, which restrict what else may run in this process.  A controller keeps the same record until it is replaced."""

    def __init__(self) -> None:
        self.context = ""
        """Context of the Python tasks of this process (``tmax_pipes.jobs.context_key``); empty: none was accepted yet."""
        self._has_taken = False
        self._exclusive = False
        """A task with ``fresh`` was accepted: nothing may run here after it."""

    def fits(self, run: Run) -> bool:
        """Return whether this process may run the task after those it has accepted; if so, record it as accepted."""
        if not run.task:
            return True
        key = context_key(run.job)
        if self._exclusive or (run.job.fresh and self._has_taken) or (key and self.context and key != self.context):
            return False
        self._has_taken, self._exclusive = True, run.job.fresh
        self.context = self.context or key
        return True


class EarlyRequests:
    """Recall and Stop of tasks that have not arrived: there is no order between the two lanes."""

    def __init__(self) -> None:
        self._requests: dict[Key, Recall | Stop] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def remember(self, key: Key, message: Recall | Stop) -> None:
        """Keep a request; beyond EARLY_COUNT the oldest one is dropped."""
        self._requests[key] = message
        if len(self._requests) > EARLY_COUNT:
            del self._requests[next(iter(self._requests))]

    def take(self, key: Key) -> Recall | Stop | None:
        """Remove and return the request about this attempt, if there is one."""
        return self._requests.pop(key, None)

    def clear(self) -> None:
        """Drop all requests."""
        self._requests.clear()


def is_about(run: Run, task: int, attempt: int) -> bool:
    """Return whether a message with this task and attempt refers to ``run``; ``attempt`` 0 matches any."""
    return run.task == task and attempt in {0, run.attempt}
