"""One connection with one worker: from its published place to the end of the FIFOs.

::

    open: results, control, tasks --> Who
    readable --> receive --> on_messages([message, ...])     all of a wake-up at once
    end-of-file, EPIPE, bad frame --> on_ended(why)           once; the process may well be alive
    send([...]) --> one write a lane; what does not fit waits for writable, and nothing else wakes for it

Messages before the worker's first ``Hello`` are the caller's to hold back: a Run may not overtake Who.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Sequence

from tmax.reactor import Reactor
from tmax_pipes.fifo import ControllerFifos
from tmax_pipes.messages import Message, Who
from tmax_pipes.pipe_errors import ConnectionEnded, FrameError
from tmax_pipes.rendezvous import Rendezvous
from tmax_pipes.wire import Wire

LOG = logging.getLogger("tmax.engines")


class WorkerConnection:
    """Open from the start; raises ConnectionEnded (the worker has left these FIFOs), PipeError or OSError."""

    def __init__(
        self,
        reactor: Reactor,
        place: Rendezvous,
        who: Who,
        *,
        on_messages: Callable[[list[Message]], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self.place = place
        self.greeted = False
        """Whether the worker has sent Hello on this connection; the caller's to set."""
        self._reactor = reactor
        self._on_messages = on_messages
        self._on_ended = on_ended
        self._fifos = ControllerFifos.open(place.folder)
        self._wire = Wire(self._fifos, "controller", who.epoch)
        self._writing: tuple[int, ...] = ()
        self._open = True
        for fd in self._fifos.read_fds():
            reactor.on_readable(fd, self._on_readable)
        self.send([who])

    def send(self, messages: Sequence[Message]) -> list[Message]:
        """Send these in this order on each lane, without blocking; return those that fit no frame and were not sent."""
        unfit: list[Message] = []
        if not self._open:
            return unfit
        for message in messages:
            try:
                self._wire.send(message)
            except FrameError as error:
                LOG.error("life %d is not sent %s: %s", self.place.life, type(message).__name__, error)
                unfit.append(message)
        self._flush()
        return unfit

    def _flush(self) -> None:
        if not self._open:
            return
        try:
            self._wire.flush()
        except ConnectionEnded:
            # What it wrote before is still to be read, and reading reports the end.
            self._watch_writable(())
            return
        self._watch_writable(self._fifos.write_fds())

    def _watch_writable(self, fds: tuple[int, ...]) -> None:
        for fd in set(self._writing).difference(fds):
            self._reactor.on_writable(fd, None)
        for fd in set(fds).difference(self._writing):
            self._reactor.on_writable(fd, self._flush)
        self._writing = fds

    def _on_readable(self) -> None:
        if not self._open:
            return
        try:
            messages = self._receive()
        except ConnectionEnded as error:
            self._end(str(error))
        except FrameError as error:
            self._end(f"the worker of life {self.place.life} wrote what is no frame: {error}")
        else:
            if messages:
                self._on_messages(messages)

    def _receive(self) -> list[Message]:
        # A frame of another epoch answers another controller; in FIFOs of one connection there can be none but by a mistake.
        return [message for epoch, message in self._wire.receive() if epoch == self._wire.epoch]

    def drain(self) -> list[Message]:
        """Return everything a worker that has ended had still written."""
        messages: list[Message] = []
        try:
            while self._open and _has_data(self._fifos.read_fds()):
                messages += self._receive()
        except (ConnectionEnded, FrameError):
            pass  # the last frame was cut off by the death, or all is read
        return messages

    def _end(self, why: str) -> None:
        if self._open:
            self.close()
            self._on_ended(why)

    def close(self) -> None:
        """Close this end without calling ``on_ended``; twice is harmless."""
        if not self._open:
            return
        self._open = False
        for fd in self._fifos.fds():
            self._reactor.forget(fd)
        self._writing = ()
        self._wire.close()


def _has_data(fds: Sequence[int]) -> bool:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))
