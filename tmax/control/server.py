"""The controller's end of the control socket; lives on the controller's reactor and never blocks.

::

    connect --> same user? --> Peer: first byte decides
                                 JSON lines  --> Ask  --> Handler.on_request --> answer / stream / fail --+
                                 bulk frames ---------> Handler.on_bulk     --> Peer.send_bulk -----------+--> unsent --> socket
    end-of-file ------------------------------------->  Handler.on_closed      (exactly once for each peer)

Every way in which a connection can end goes through its end-of-file: ``_drop`` shuts the socket down and the loop then reads
the end.  So no handler ever loses a peer in the middle of its own call.  A peer can do nothing that raises out of the loop.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tmax.control.bulk import Frames, decode_request, encode, encode_replies
from tmax.control.protocol import BULK_MARK, MAX_LINE_BYTES, BulkRefused, BulkReply, BulkRequest
from tmax.errors import FolderError, TmaxError, UsageError
from tmax.layout import SUN_PATH_BYTES, private_folder
from tmax.reactor import Reactor
from tmax_pipes.listening import listen_at
from tmax_pipes.peer_credentials import peer_credentials

MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""A peer that has not read so much is dropped; a client of ours connects again and asks for what it missed."""

_READ_BYTES = 256 * 1024
_BACKLOG = 512
_REMOVED_TRIES = 5
"""The folder may be removed as often while a socket is made in it."""
_log = logging.getLogger("tmax.control")


class Handler(Protocol):
    """Who answers.  May raise TmaxError, which is then the answer; called on the reactor's thread."""

    def on_request(self, ask: Request) -> None:
        """Somebody asks a JSON verb."""

    def on_bulk(self, peer: ClientConnection, request: BulkRequest) -> None:
        """A client of the Python API says something."""

    def on_closed(self, peer: ClientConnection) -> None:
        """This peer's connection is over; said once for each peer."""


class Request:
    """One JSON request.  It is answered once: by ``answer`` or ``fail``, after any number of ``stream``.

    Until then further requests of the same connection wait, as answers carry no name of their question.
    After the peer went away every answer is dropped silently.
    """

    __slots__ = ("_open", "fields", "peer", "verb")

    def __init__(self, peer: ClientConnection, verb: str, fields: dict[str, object]) -> None:
        self.peer = peer
        self.verb = verb
        self.fields = fields
        self._open = True

    def answer(self, **fields: object) -> None:
        """Answer, and end this request.  Values may be msgspec Structs and dataclasses; bytes become base64."""
        self._say(_as_line({"ok": True, **fields}), last=True)

    def answer_line(self, line: bytes) -> None:
        """Answer with a JSON object that is encoded already, and end this request."""
        self._say(line, last=True)

    def stream_line(self, line: bytes) -> None:
        """Say one line of several, encoded already; it has ``"more": true``."""
        self._say(line, last=False)

    def stream(self, **fields: object) -> None:
        """Say one line of several; ``answer`` or ``fail`` ends them."""
        self._say(_as_line({"ok": True, "more": True, **fields}), last=False)

    def fail(self, error: TmaxError) -> None:
        """Answer with an error, and end this request."""
        self._say(_as_line({"error": {"code": error.code, "message": error.message, "hint": error.hint}}), last=True)

    def fail_if_open(self, error: TmaxError) -> None:
        """As ``fail``; nothing when this request has ended already."""
        if self._open:
            self.fail(error)

    def _say(self, line: bytes, *, last: bool) -> None:
        assert self._open, f"{self.verb} was answered already"
        self._open = not last
        self.peer.say_line(line)
        if last:
            self.peer.end_ask(self)


class ClientConnection:
    """One connection.  ``number`` is never used twice by one server; ``pid`` is the peer's as the kernel saw it connect."""

    def __init__(self, server: Server, sock: socket.socket, pid: int, number: int) -> None:
        self.pid = pid
        self.number = number
        self.alive = True
        self._server = server
        self._reactor = server.reactor
        self._sock = sock
        self._fd = sock.fileno()
        self._frames: Frames | None = None
        self._inbox = bytearray()
        self._scanned = 0
        self._ask: Request | None = None
        self._taking = False
        self._closing = False
        self._unsent = bytearray()
        self._when_sent: list[Callable[[], None]] = []
        self._reactor.on_readable(self._fd, self._on_readable)

    @property
    def unsent_bytes(self) -> int:
        """What was said and has not gone out: a stream may skip a picture while its reader is behind."""
        return len(self._unsent)

    # -- in ----------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # reset: the peer ended without reading our last words
        if not data:
            self._server.forget(self)
        elif self.alive and not self._closing:
            self._hear(data)

    def _hear(self, data: bytes) -> None:
        if self._frames is None and not self._inbox and data[0] == BULK_MARK:
            self._frames = Frames()
        if self._frames is not None:
            self._hear_frames(self._frames, data)
        else:
            self._inbox += data
            self._take_lines()

    def _hear_frames(self, frames: Frames, data: bytes) -> None:
        try:
            for body in frames.feed(data):
                self._server.handler.on_bulk(self, decode_request(body))
                if not self.alive or self._closing:
                    return
        except TmaxError as error:
            self._refuse(error)
        except Exception:
            # A defect of ours met by one peer's words must not take the swarm down with it.
            _log.exception("bulk request of peer %d (pid %d)", self.number, self.pid)
            self._refuse(TmaxError("internal error; the controller's log has it"))

    def _take_lines(self) -> None:
        if self._taking:
            return  # answered at once: the loop below goes on by itself
        self._taking = True
        try:
            while self.alive and not self._closing and self._ask is None:
                line = self._next_line()
                if line is None:
                    break
                if line.strip():
                    self._take(line)
        finally:
            self._taking = False
        if len(self._inbox) > MAX_LINE_BYTES and self.alive:
            self._refuse(UsageError(f"a request longer than {MAX_LINE_BYTES} bytes is not read"))

    def _next_line(self) -> bytes | None:
        end = self._inbox.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._inbox)
            return None
        line = bytes(self._inbox[:end])
        del self._inbox[: end + 1]
        self._scanned = 0
        return line

    def _take(self, line: bytes) -> None:
        try:
            verb, fields = _understood(line)
        except UsageError as error:
            Request(self, "", {}).fail(error)
            return
        ask = self._ask = Request(self, verb, fields)
        try:
            self._server.handler.on_request(ask)
        except TmaxError as error:
            ask.fail_if_open(error)
        except Exception:
            # As in _hear_frames; the person gets an answer, the log the traceback.
            _log.exception("request %r of peer %d (pid %d)", verb, self.number, self.pid)
            ask.fail_if_open(TmaxError("internal error; the controller's log has it"))

    def end_ask(self, ask: Request) -> None:
        """Go on with the next request of this connection (called by Ask)."""
        if self._ask is ask:
            self._ask = None
            if self._inbox and not self._taking:
                self._reactor.call_soon(self._take_lines)

    # -- out ---------------------------------------------------------------------------------------

    def say_line(self, line: bytes) -> None:
        """Send one JSON line (called by Ask)."""
        self._send(line + b"\n")

    def when_sent(self, call: Callable[[], None]) -> None:
        """Call, once, when nothing that was said waits to go out any more, or when this connection has ended."""
        if self._unsent and self.alive:
            self._when_sent.append(call)
        else:
            call()

    def _nothing_unsent(self) -> None:
        waiting, self._when_sent = self._when_sent, []
        for call in waiting:
            call()

    def send_bulk(self, replies: Sequence[BulkReply]) -> None:
        """Send these replies, in order; after the peer went away: nothing."""
        if self.alive:
            self._send(encode_replies(replies))

    def close(self) -> None:
        """End this connection once all that was said has been read; twice is harmless."""
        self._closing = True
        if not self._unsent:
            self._drop()

    def _refuse(self, error: TmaxError) -> None:
        if self._frames is not None:
            self._send(encode(BulkRefused((), error.code, error.message, error.hint)))
        else:
            self.say_line(_as_line({"error": {"code": error.code, "message": error.message, "hint": error.hint}}))
        self.close()

    def _send(self, data: bytes) -> None:
        if not self.alive:
            return
        if len(self._unsent) > MAX_UNSENT_BYTES:
            # Looked at before adding, so that one large answer can always be given.
            _log.warning("peer %d (pid %d) does not read; dropped with %d bytes unsent", self.number, self.pid, len(self._unsent))
            self._drop()
        elif self._unsent:
            self._unsent += data
        else:
            sent = self._write(data)
            if sent is not None and sent < len(data):
                self._unsent += memoryview(data)[sent:]
                self._reactor.on_writable(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        with memoryview(self._unsent) as view:
            sent = self._write(view)
        del self._unsent[: sent or 0]
        if not self._unsent:
            self._reactor.on_writable(self._fd, None)
            if self._closing:
                self._drop()
            self._nothing_unsent()

    def _write(self, data: bytes | memoryview) -> int | None:
        """Return how much went out; None: nobody reads any more."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # EPIPE or reset: nobody reads.  A peer that only closed its reading side would never show an end-of-file by itself.
            self._drop()
            return None

    def _drop(self) -> None:
        self.alive = False
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was quicker; its end-of-file is there to be read

    def release(self) -> None:
        """Give the descriptor back (called by Server, last)."""
        self.alive = False
        self._reactor.forget(self._fd)
        self._sock.close()
        self._unsent.clear()
        self._inbox.clear()
        self._nothing_unsent()


class Server:
    """Listens at ``path`` and owns its peers.

    Binds in a private folder (FolderError says what is wrong with it), removes a stale socket first: the caller holds the
    controller's lock, so no other controller of this swarm can be listening there.
    """

    def __init__(self, path: str, reactor: Reactor, handler: Handler) -> None:
        self.reactor = reactor
        self.handler = handler
        self._path = path
        self._numbers = itertools.count(1)
        self._peers: dict[int, ClientConnection] = {}
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sock, self._inode = _listening(path)
        except BaseException:
            os.close(self._spare)
            raise
        reactor.on_readable(self._sock.fileno(), self._on_connect)

    def reopen(self) -> bool:
        """Listen at ``path`` again when the socket there is not ours any more; return whether it was so.

        Connections that are open stay, and those that wait at the old socket are taken.  Raises as making a Server does.
        """
        try:
            if os.lstat(self._path).st_ino == self._inode:
                return False
        except OSError:
            pass  # it was removed, or its folder was
        sock, self._inode = _listening(self._path)
        old, self._sock = self._sock, sock
        self.reactor.forget(old.fileno())
        self._on_connect(old)
        old.close()
        self.reactor.on_readable(sock.fileno(), self._on_connect)
        return True

    def _on_connect(self, listener: socket.socket | None = None) -> None:
        for _ in range(_BACKLOG):
            try:
                sock, _ = (listener or self._sock).accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE}:
                    _log.warning("accept: %s", error)
                    return
                self._turn_away()
                return
            self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        pid, uid, _ = peer_credentials(sock)
        if uid != os.geteuid():
            _log.warning("a connection of uid %d (pid %d) was refused", uid, pid)
            sock.close()
            return
        number = next(self._numbers)
        self._peers[number] = ClientConnection(self, sock, pid, number)

    def _turn_away(self) -> None:
        """No descriptor is left: with the spare one take a connection and end it, or the loop would spin on it."""
        _log.warning("no descriptors left: a connection was turned away")
        os.close(self._spare)
        try:
            self._sock.accept()[0].close()
        except OSError:
            pass  # it went away by itself
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = os.dup(self._sock.fileno())  # some thread took the one just freed; any descriptor will do

    def forget(self, peer: ClientConnection) -> None:
        """Let go of a peer whose connection is over (called by Peer)."""
        del self._peers[peer.number]
        peer.release()
        try:
            self.handler.on_closed(peer)
        except Exception:
            # As in Peer: one peer's end must not be the swarm's.
            _log.exception("end of peer %d (pid %d)", peer.number, peer.pid)

    def close(self) -> None:
        """Stop listening and end every connection; ``on_closed`` is not called.  Twice is harmless."""
        if self._sock.fileno() < 0:
            return
        self.reactor.forget(self._sock.fileno())
        self._sock.close()
        os.close(self._spare)
        for peer in self._peers.values():
            peer.release()
        self._peers.clear()
        try:
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            pass  # the folder was cleared away before us


def _as_line(fields: dict[str, object]) -> bytes:
    """Encode an answer.  ASCII only, so that lone surrogates of a person's shell come through."""
    return json.dumps(fields, default=msgspec.to_builtins).encode("ascii")


def _understood(line: bytes) -> tuple[str, dict[str, object]]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        # json, not msgspec: an argument of a person's shell may hold a lone surrogate, which msgspec refuses.
        raise UsageError(f"request is not JSON: {error}") from error
    verb = fields.pop("verb", None) if isinstance(fields, dict) else None
    if not isinstance(verb, str) or not verb:
        raise UsageError('a request is an object with a "verb"')
    return verb, fields


def _listening(path: str) -> tuple[socket.socket, int]:
    if len(os.fsencode(path)) > SUN_PATH_BYTES:
        raise FolderError(path, f"is too long for a socket (at most {SUN_PATH_BYTES} bytes)")
    for _ in range(_REMOVED_TRIES):
        private_folder(os.path.dirname(path))
        _clear_way(path)
        try:
            return _bound(path)
        except FileNotFoundError:
            pass  # its folder was removed again, just now
        except OSError as error:
            raise FolderError(path, f"cannot be listened at: {error.strerror}") from error
    raise FolderError(path, "cannot be listened at: its folder is removed again and again")


def _clear_way(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FolderError(path, "is in the way: it is not a socket")
        os.unlink(path)
    except FileNotFoundError:
        pass  # the usual case


def _bound(path: str) -> tuple[socket.socket, int]:
    sock = listen_at(path, _BACKLOG)
    try:
        sock.setblocking(False)
        return sock, os.lstat(path).st_ino
    except OSError:
        sock.close()
        raise
