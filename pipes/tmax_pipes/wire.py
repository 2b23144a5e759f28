"""Messages over a carrier: frames, lanes and decoders of one connection, joined.

::

    send(m) --> frame, in the lane's list --flush()--> transport.write(lane)        one write for each lane and turn
    receive() <-- Decoder of the lane <-- transport.read()
"""

from __future__ import annotations

from tmax_pipes.frame import Decoder, Kind, encode
from tmax_pipes.messages import Message
from tmax_pipes.transport import Lane, Role, Transport, lane_of

_RECEIVED: dict[Role, Kind] = {"controller": "from_worker", "worker": "to_worker"}


class Wire:
    """One end of a connection.

    ``epoch`` marks sent frames: the controller's own; a worker uses that of the ``Who`` it reads.
    The wire owns its transport: closing one closes the other.
    """

    def __init__(self, transport: Transport, role: Role, epoch: int = 0) -> None:
        self.transport = transport
        self.epoch = epoch
        self._kind = _RECEIVED[role]
        self._decoders: dict[Lane, Decoder] = {}
        self._unsent: dict[Lane, list[bytes]] = {}

    def send(self, *messages: Message) -> None:
        """Queue these messages for the next ``flush``, so that many small frames share one write.

        Raises FrameError(``length``) for a message that fits no frame.  Framing happens here and not in ``flush``, so that
        the sender gets the error: closing the connection would not help, as the message would be sent again on the next one.
        """
        for message in messages:
            self._unsent.setdefault(lane_of(message), []).append(encode(message, self.epoch))

    def flush(self) -> None:
        """Write the queued frames, control before tasks; what does not fit stays in the transport (``transport.wants_write``).

        Raises ConnectionEnded as the transport does.
        """
        self.transport.flush()
        for lane in sorted(self._unsent):
            self.transport.write(lane, b"".join(self._unsent.pop(lane)))

    def receive(self) -> list[tuple[int, Message]]:
        """Return the (epoch, message) of every whole frame that has arrived; an empty list: nothing now.

        Raises ConnectionEnded, or FrameError; the connection is unusable after either.
        """
        received: list[tuple[int, Message]] = []
        for lane, data in self.transport.read():
            decoder = self._decoders.get(lane)
            if decoder is None:
                decoder = self._decoders[lane] = Decoder(self._kind)
            received += decoder.feed(data)
        return received

    def close(self) -> None:
        """Close the transport; a second call is harmless."""
        self.transport.close()
