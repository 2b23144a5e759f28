"""Which messages are not acknowledged, and which are sent again on a new connection.

A lost connection loses a suffix of each lane: the peer has received a prefix of what was sent, in order, of unknown length.
The worker sends ``Hello``, its first message on the new connection, after it has read all it will ever read of the old
one.  So Hello describes the worker's state exactly, and each end compares it with what it has sent:

* A ``Run`` is acknowledged by ``Started``, ``Recalled``, ``Done`` or ``Failed``.  If it is not, and Hello neither
  holds the task nor has its result, then the worker never read it, or gave it back and ``Recalled`` was lost.  It
  is sent again in either case, unless a ``Recall`` or ``Stop`` was pending, which is then fulfilled (``given_back``).
* Nothing acknowledges a ``Go``.  A task held in state ``asked`` has not received it; a running one has.  It is not sent
  again after a ``Stop``: a cancelled task does not begin.
* ``Recall`` and ``Stop`` are sent again as long as the worker holds the task and has not reported its end.
* ``Done`` and ``Failed`` are kept until ``Stored`` and sent again after every Hello.  So is the latest ``Started`` of
  a task that has not ended: it carries the process group, which the controller needs before a redelivery.
* ``Stored`` and ``Recalled`` are not remembered: the messages that they answer are sent again, and answered again.

The key is (task, attempt), which survives a restart of either end; sequence numbers would not.  Every message may
arrive twice and must then be harmless.  Only the *first* Hello of a connection triggers the repetition: a later one (the
worker was renamed) may cross with Runs in flight, which are not lost.
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
    """The controller's record of what it sent to one worker life.

    A restarted controller passes the messages that its store implies to ``sent``, then calls
    ``to_resend`` as after any other loss.
    """

    __slots__ = ("_open", "_stop")

    def __init__(self) -> None:
        # Dicts keep the order of the first sending, by task and within a task, so ``to_resend`` is deterministic.
        self._open: dict[Key, dict[type[Message], Message]] = {}
        self._stop: Stop | None = None

    def sent(self, message: Message) -> None:
        """Record a sent message; kinds that are never sent again are ignored."""
        if isinstance(message, Stop) and not message.task:
            self._stop = message
        elif isinstance(message, (Run, Go, Recall, Stop)):
            self._open.setdefault((message.task, message.attempt), {})[type(message)] = message

    def forget(self, key: Key) -> None:
        """Drop the record of an attempt that the worker does not hold any more."""
        self._open.pop(key, None)

    def received(self, message: Message) -> None:
        """Drop what ``message`` acknowledges; unknown keys and other messages are ignored."""
        if isinstance(message, (Recalled, Done, Failed)):
            self.forget((message.task, message.attempt))
        elif isinstance(message, Started):
            sent_messages = self._open.get((message.task, message.attempt), {})
            sent_messages.pop(Run, None)

    def to_resend(self, hello: Hello) -> list[Message]:
        """Return what to send again after the first ``Hello`` of a connection, in the order of the first sending.

        It changes nothing: a second call returns the same.
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
        """Return a ``Recalled`` for each recalled or stopped task that the worker does not hold: its answer was lost, or not due.

        The caller handles them like received messages, and passes them to ``received``.
        """
        known = {(one.task, one.attempt) for one in hello.holding}.union(hello.results)
        return [
            Recalled(task=key[0], attempt=key[1])
            for key, sent_messages in self._open.items()
            if Run in sent_messages and _is_unwanted(sent_messages) and key not in known
        ]


def _is_unwanted(sent_messages: dict[type[Message], Message]) -> bool:
    """Whether a ``Recall`` or ``Stop`` was sent for this task."""
    return Recall in sent_messages or Stop in sent_messages


def _unread(sent_messages: dict[type[Message], Message], state: str) -> list[Message]:
    """The messages that a worker which holds the task in this state may not have read."""
    kinds: list[type[Message]] = [Stop]
    if state != "running":
        kinds.append(Recall)
    if state == "asked" and Stop not in sent_messages:
        kinds.append(Go)
    return [message for kind, message in sent_messages.items() if kind in kinds]


def without_overtaken(messages: Sequence[Message]) -> list[Message]:
    """Return a worker's messages without each ``Started`` that the end of the same attempt follows directly: the end implies it.

    Most short tasks arrive like this.
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
    """The worker's record of what the controller may not have received."""

    __slots__ = ("_results", "_started")

    def __init__(self) -> None:
        self._started: dict[Key, Started] = {}
        self._results: dict[Key, Done | Failed] = {}

    def sent(self, message: Message) -> None:
        """Record a message that was sent, or that is due once there is a connection."""
        if isinstance(message, Started):
            self._started[message.task, message.attempt] = message
        elif isinstance(message, (Done, Failed)):
            self._started.pop((message.task, message.attempt), None)
            self._results[message.task, message.attempt] = message
        elif isinstance(message, Recalled):
            self._started.pop((message.task, message.attempt), None)

    def received(self, message: Message) -> None:
        """Drop results that are ``Stored``; unknown keys and other messages are ignored."""
        if isinstance(message, Stored):
            for key in message.keys:
                self._results.pop(key, None)

    def results(self) -> tuple[Key, ...]:
        """Return the keys of the results kept, oldest first, for ``Hello.results``."""
        return tuple(self._results)

    def to_resend(self) -> list[Message]:
        """Return what to send after the ``Hello`` of a new connection: started tasks, then results, oldest first."""
        return [*self._started.values(), *self._results.values()]
