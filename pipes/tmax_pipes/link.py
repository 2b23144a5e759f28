"""What was said and not acknowledged, and what to say again on a new connection.

The theory.  A connection loses a suffix of each lane: what arrived is a beginning of what was said, in order.  Nobody
knows where it was cut, but ``Hello``, the first message on the way back, is said after the worker has read all it
will ever read of the old connection.  So Hello is the truth about the worker, and each end compares it with
what it has said:

* A ``Run`` is acknowledged by ``Started``, ``Recalled``, ``Done`` or ``Failed``.  If it is not, and Hello neither
  holds the task nor has its result, then the worker never read it, or gave it back and ``Recalled`` was lost.  Said
  again in either case, unless a ``Recall`` or ``Stop`` was out: then the controller has what it wanted (``given_back``).
* A ``Go`` is acknowledged by nothing.  A task held in state ``asked`` has not read it; a running one has.  It is not said
  again once a ``Stop`` was: what is cancelled does not begin.
* ``Recall`` and ``Stop`` are wishes: said again as long as the task they speak of is held and no end of it was heard.
* ``Done`` and ``Failed`` are kept until ``Stored`` and said again after every Hello.  So is the latest ``Started`` of
  a task that has not ended: it carries the process group, which the controller needs before it can deliver again.
* ``Stored`` and ``Recalled`` need no memory: what they answer is said again, and is answered again.

Everything is keyed by (task, attempt), which survives a restart of either end; sequence numbers would not.  All the
messages may arrive twice and must be harmless then.  Said again only after the *first* Hello of a connection: a later
one (the worker was renamed) crosses with Runs on their way, which are not lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from tmax_pipes.messages import (
    Done,
    Failed,
    Go,
    Hello,
    Key,
    Message,
    Recall,
    Recalled,
    Run,
    Started,
    Stop,
    Stored,
)

_ENDED = (Done, Failed)


class ControllerLink:
    """The controller's memory of one worker life.

    A controller that was started again has none: it tells ``sent`` what its store says was sent, then uses
    ``to_resend`` like after any other loss.
    """

    __slots__ = ("_open", "_stop")

    def __init__(self) -> None:
        # A dict of dicts keeps the order of first saying, by task and within a task: ``to_resend`` is deterministic.
        self._open: dict[Key, dict[type[Message], Message]] = {}
        self._stop: Stop | None = None

    def sent(self, message: Message) -> None:
        """Remember a message that was said; one that needs no memory is ignored."""
        if isinstance(message, Stop) and not message.task:
            self._stop = message
        elif isinstance(message, (Run, Go, Recall, Stop)):
            self._open.setdefault((message.task, message.attempt), {})[type(message)] = message

    def forget(self, key: Key) -> None:
        """The worker does not have this attempt any more: nothing is to be said of it again."""
        self._open.pop(key, None)

    def received(self, message: Message) -> None:
        """Forget what ``message`` acknowledges; unknown keys and other messages are harmless."""
        if isinstance(message, (Recalled, Done, Failed)):
            self.forget((message.task, message.attempt))
        elif isinstance(message, Started):
            sent_messages = self._open.get((message.task, message.attempt), {})
            sent_messages.pop(Run, None)

    def to_resend(self, hello: Hello) -> list[Message]:
        """Return what to say again after the first ``Hello`` of a connection, in the order it was first said.

        Nothing is forgotten by it: calling it twice returns the same.
        """
        held = {(one.task, one.attempt): one.state for one in hello.holding}
        results = frozenset(hello.results)
        messages: list[Message] = []
        for key, sent_messages in self._open.items():
            if key in held:
                messages += _unread(sent_messages, held[key])
            elif Run in sent_messages and not _is_unwanted(sent_messages) and key not in results:
                messages.append(sent_messages[Run])
        if self._stop is not None:
            messages.append(self._stop)
        return messages

    def given_back(self, hello: Hello) -> list[Recalled]:
        """Return the answers to ``Recall`` and ``Stop`` that were lost, or that the worker had no reason to give.

        To be treated as if they had been heard, also by ``received``: the worker does not have these tasks.
        """
        known = {(one.task, one.attempt) for one in hello.holding}.union(hello.results)
        return [
            Recalled(task=key[0], attempt=key[1])
            for key, sent_messages in self._open.items()
            if Run in sent_messages and _is_unwanted(sent_messages) and key not in known
        ]


def _is_unwanted(sent_messages: dict[type[Message], Message]) -> bool:
    """Whether the worker was told that it is not to begin this task."""
    return Recall in sent_messages or Stop in sent_messages


def _unread(sent_messages: dict[type[Message], Message], state: str) -> list[Message]:
    """What a worker that holds the task in this state has not read, or may not have read."""
    kinds: list[type[Message]] = [Stop]
    if state != "running":
        kinds.append(Recall)
    if state == "asked" and Stop not in sent_messages:
        kinds.append(Go)
    return [message for kind, message in sent_messages.items() if kind in kinds]


def without_overtaken(messages: Sequence[Message]) -> list[Message]:
    """Return what a worker said without each ``Started`` that the end of the same attempt follows at once: that end says as much.

    Of short tasks most arrive like this.
    """
    kept: list[Message] = []
    last: Message | None = None
    for message in messages:
        if isinstance(last, Started) and isinstance(message, _ENDED) and (last.task, last.attempt) == (message.task, message.attempt):
            kept.pop()
        kept.append(message)
        last = message
    return kept


class WorkerLink:
    """The worker's memory of what the controller may not know yet."""

    __slots__ = ("_results", "_started")

    def __init__(self) -> None:
        self._started: dict[Key, Started] = {}
        self._results: dict[Key, Done | Failed] = {}

    def sent(self, message: Message) -> None:
        """Remember a message that was said, or that is to be said once there is a connection."""
        if isinstance(message, Started):
            self._started[message.task, message.attempt] = message
        elif isinstance(message, (Done, Failed)):
            self._started.pop((message.task, message.attempt), None)
            self._results[message.task, message.attempt] = message
        elif isinstance(message, Recalled):
            self._started.pop((message.task, message.attempt), None)

    def received(self, message: Message) -> None:
        """Forget results that are ``Stored``; unknown keys and other messages are harmless."""
        if isinstance(message, Stored):
            for key in message.keys:
                self._results.pop(key, None)

    def results(self) -> tuple[Key, ...]:
        """Return the keys of the results kept, oldest first: what ``Hello.results`` names."""
        return tuple(self._results)

    def to_resend(self) -> list[Message]:
        """Return what to say after the ``Hello`` of a new connection: tasks that have started, then results, oldest first."""
        return [*self._started.values(), *self._results.values()]
