"""Messages over a carrier: frames, lanes and decoders of one connection, joined.

::

    say(m) --> frame, in the lane's list --flush()--> transport.write(lane)        one write for each lane and turn
    hear() <-- Decoder of the lane <-- transport.read()
"""

from __future__ import annotations

from tmax_pipes.frame import Decoder, Kind, encode
from tmax_pipes.messages import Message
from tmax_pipes.transport import Lane, Role, Transport, lane_of

_RECEIVED: dict[Role, Kind] = {"controller": "from_worker", "worker": "to_worker"}


class Wire:
    """One end of a conversation.

    ``epoch`` marks what is said; a controller gives its own, a worker takes over that of the ``Who`` it reads.
    The wire owns its transport: closing one closes the other.
    """

    def __init__(self, transport: Transport, role: Role, epoch: int = 0) -> None:
        self.transport = transport
        self.epoch = epoch
        self._kind = _RECEIVED[role]
        self._decoders: dict[Lane, Decoder] = {}
        self._unsent: dict[Lane, list[bytes]] = {}

    def send(self, *messages: Message) -> None:
        """Keep these messages for the next ``flush``: many small frames then share one write.

        Raises FrameError(``length``) for a message that fits no frame.  It is framed here and not in ``flush``, so that
        the error meets who said it: ending the connection would not help, it would be said again on the next one.
        """
        for message in messages:
            self._unsent.setdefault(lane_of(message), []).append(encode(message, self.epoch))

    def flush(self) -> None:
        """Write what was said, control before tasks; what does not fit stays queued (``transport.wants_write``).

        Raises ConnectionEnded as the transport does.
        """
        self.transport.flush()
        for lane in sorted(self._unsent):
            self.transport.write(lane, b"".join(self._unsent.pop(lane)))

    def receive(self) -> list[tuple[int, Message]]:
        """Return the (epoch, message) of every whole frame that has arrived; an empty list: nothing now.

        Raises ConnectionEnded, or FrameError; after either the connection is over.
        """
        received: list[tuple[int, Message]] = []
        for lane, data in self.transport.read():
            decoder = self._decoders.get(lane)
            if decoder is None:
                decoder = self._decoders[lane] = Decoder(self._kind)
            received += decoder.feed(data)
        return received

    def close(self) -> None:
        """Close the transport; twice is harmless."""
        self.transport.close()
