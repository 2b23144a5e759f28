"""The server of the control socket; runs on the controller's reactor and never blocks.

::

    connect --> same user? --> ClientConnection: the first byte decides
                                 JSON lines  --> Request --> Handler.on_request --> answer / stream / fail --------+
                                 bulk frames ------------->  Handler.on_bulk    --> ClientConnection.send_bulk ----+--> unsent --> socket
    end-of-file ------------------------------------------>  Handler.on_closed      (exactly once for each client)

Every connection ends through its end-of-file: ``_drop`` shuts the socket down, and the reactor then reads the end-of-file.  So a
client never disappears during a handler's call.  No input from a client raises an exception out of the loop.
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
"""A client with more unread bytes is disconnected; tmax's own client connects again and requests what it missed."""

_READ_BYTES = 256 * 1024
_BACKLOG = 512
_REMOVED_TRIES = 5
"""How often the folder may be removed while a socket is made in it."""
_log = logging.getLogger("tmax.control")


class Handler(Protocol):
    """Handles requests, on the reactor's thread.  May raise TmaxError, which is then the reply."""

    def on_request(self, request: Request) -> None:
        """Handle one JSON request."""

    def on_bulk(self, client: ClientConnection, request: BulkRequest) -> None:
        """Handle one bulk frame of a client of the Python API."""

    def on_closed(self, client: ClientConnection) -> None:
        """Handle the end of a connection; called once for each."""


class Request:
    """One JSON request.  It is answered once: by ``answer`` or ``fail``, after any number of ``stream``.

    Until then, further requests of the same connection wait, as replies do not name their request.
    After the client has disconnected, replies are dropped silently.
    """

    __slots__ = ("_open", "client", "fields", "verb")

    def __init__(self, client: ClientConnection, verb: str, fields: dict[str, object]) -> None:
        self.client = client
        self.verb = verb
        self.fields = fields
        self._open = True

    def answer(self, **fields: object) -> None:
        """Answer, and end this request.  Values may be msgspec Structs and dataclasses; bytes become base64."""
        self._write_line(_as_line({"ok": True, **fields}), last=True)

    def answer_line(self, line: bytes) -> None:
        """Answer with a JSON object that is encoded already, and end this request."""
        self._write_line(line, last=True)

    def stream_line(self, line: bytes) -> None:
        """Send one line of several, encoded already; it has ``"more": true``."""
        self._write_line(line, last=False)

    def stream(self, **fields: object) -> None:
        """Send one line of several; ``answer`` or ``fail`` ends them."""
        self._write_line(_as_line({"ok": True, "more": True, **fields}), last=False)

    def fail(self, error: TmaxError) -> None:
        """Answer with an error, and end this request."""
        self._write_line(_as_line({"error": {"code": error.code, "message": error.message, "hint": error.hint}}), last=True)

    def fail_if_open(self, error: TmaxError) -> None:
        """As ``fail``; no effect when this request has ended already."""
        if self._open:
            self.fail(error)

    def _write_line(self, line: bytes, *, last: bool) -> None:
        assert self._open, f"{self.verb} was answered already"
        self._open = not last
        self.client.send_line(line)
        if last:
            self.client.end_request(self)


class ClientConnection:
    """One connection.  ``number`` is unique within a server; ``pid``: the client's process when it connected, from the kernel."""

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
        self._request: Request | None = None
        self._taking = False
        self._closing = False
        self._unsent = bytearray()
        self._when_sent: list[Callable[[], None]] = []
        self._reactor.on_readable(self._fd, self._on_readable)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were queued and not sent yet; a stream may wait or skip while its client is slow."""
        return len(self._unsent)

    # -- in ----------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # reset: the client ended without reading the last replies
        if not data:
            self._server.forget(self)
        elif self.alive and not self._closing:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        if self._frames is None and not self._inbox and data[0] == BULK_MARK:
            self._frames = Frames()
        if self._frames is not None:
            self._receive_frames(self._frames, data)
        else:
            self._inbox += data
            self._take_lines()

    def _receive_frames(self, frames: Frames, data: bytes) -> None:
        try:
            for body in frames.feed(data):
                self._server.handler.on_bulk(self, decode_request(body))
                if not self.alive or self._closing:
                    return
        except TmaxError as error:
            self._refuse(error)
        except Exception:
            # A defect that one client's request triggers must not end the controller.
            _log.exception("bulk request of client %d (pid %d)", self.number, self.pid)
            self._refuse(TmaxError("internal error; the controller's log has it"))

    def _take_lines(self) -> None:
        if self._taking:
            return  # called from within the loop below, by a request that was answered at once
        self._taking = True
        try:
            while self.alive and not self._closing and self._request is None:
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
        request = self._request = Request(self, verb, fields)
        try:
            self._server.handler.on_request(request)
        except TmaxError as error:
            request.fail_if_open(error)
        except Exception:
            # As in _receive_frames: the client gets an error, the log the traceback.
            _log.exception("request %r of client %d (pid %d)", verb, self.number, self.pid)
            request.fail_if_open(TmaxError("internal error; the controller's log has it"))

    def end_request(self, request: Request) -> None:
        """Continue with the next request of this connection (called by Request)."""
        if self._request is request:
            self._request = None
            if self._inbox and not self._taking:
                self._reactor.call_soon(self._take_lines)

    # -- out ---------------------------------------------------------------------------------------

    def send_line(self, line: bytes) -> None:
        """Send one JSON line (called by Request)."""
        self._send(line + b"\n")

    def when_sent(self, call: Callable[[], None]) -> None:
        """Call, once, when all queued bytes have been sent, or when this connection has ended."""
        if self._unsent and self.alive:
            self._when_sent.append(call)
        else:
            call()

    def _nothing_unsent(self) -> None:
        waiting, self._when_sent = self._when_sent, []
        for call in waiting:
            call()

    def send_bulk(self, replies: Sequence[BulkReply]) -> None:
        """Send these replies, in order; no effect after the connection has ended."""
        if self.alive:
            self._send(encode_replies(replies))

    def close(self) -> None:
        """End this connection once all queued bytes have been sent; a second call has no effect."""
        self._closing = True
        if not self._unsent:
            self._drop()

    def _refuse(self, error: TmaxError) -> None:
        if self._frames is not None:
            self._send(encode(BulkRefused((), error.code, error.message, error.hint)))
        else:
            self.send_line(_as_line({"error": {"code": error.code, "message": error.message, "hint": error.hint}}))
        self.close()

    def _send(self, data: bytes) -> None:
        if not self.alive:
            return
        if len(self._unsent) > MAX_UNSENT_BYTES:
            # Checked before adding, so that one large reply can always be sent.
            _log.warning("client %d (pid %d) does not read; dropped with %d bytes unsent", self.number, self.pid, len(self._unsent))
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
        """Return how many bytes were sent; None: the client does not read any more."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # EPIPE or reset.  A client that closed only its reading side never causes an end-of-file by itself.
            self._drop()
            return None

    def _drop(self) -> None:
        self.alive = False
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has closed it already; its end-of-file is read next

    def release(self) -> None:
        """Close the descriptor (called by Server, last)."""
        self.alive = False
        self._reactor.forget(self._fd)
        self._sock.close()
        self._unsent.clear()
        self._inbox.clear()
        self._nothing_unsent()


class Server:
    """Listens at ``path`` and owns the connections.

    Binds in a private folder (raises FolderError otherwise) and removes a stale socket first: the caller holds the
    controller's lock, so no other controller of this swarm can be listening there.
    """

    def __init__(self, path: str, reactor: Reactor, handler: Handler) -> None:
        self.reactor = reactor
        self.handler = handler
        self._path = path
        self._numbers = itertools.count(1)
        self._clients: dict[int, ClientConnection] = {}
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sock, self._inode = _listening(path)
        except BaseException:
            os.close(self._spare)
            raise
        reactor.on_readable(self._sock.fileno(), self._on_connect)

    def reopen(self) -> bool:
        """Listen at ``path`` again if the socket there is no longer this server's; return whether that was so.

        Open connections stay, and those that wait at the old socket are accepted.  Raises as making a Server does.
        """
        try:
            if os.lstat(self._path).st_ino == self._inode:
                return False
        except OSError:
            pass  # the socket or its folder was removed
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
                self._reject()
                return
            self._accept(sock)

    def _accept(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        pid, uid, _ = peer_credentials(sock)
        if uid != os.geteuid():
            _log.warning("a connection of uid %d (pid %d) was refused", uid, pid)
            sock.close()
            return
        number = next(self._numbers)
        self._clients[number] = ClientConnection(self, sock, pid, number)

    def _reject(self) -> None:
        """Accept and close one connection with the spare descriptor: while it waits, the socket stays readable and the loop would spin."""
        _log.warning("no descriptors left: a connection was refused")
        os.close(self._spare)
        try:
            self._sock.accept()[0].close()
        except OSError:
            pass  # the client has disconnected
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = os.dup(self._sock.fileno())  # another thread took the one just freed; any descriptor serves as a spare

    def forget(self, client: ClientConnection) -> None:
        """Remove a connection that has ended (called by ClientConnection)."""
        del self._clients[client.number]
        client.release()
        try:
            self.handler.on_closed(client)
        except Exception:
            # As in ClientConnection: a defect must not end the controller.
            _log.exception("end of client %d (pid %d)", client.number, client.pid)

    def close(self) -> None:
        """Stop listening and end every connection; ``on_closed`` is not called.  A second call has no effect."""
        if self._sock.fileno() < 0:
            return
        self.reactor.forget(self._sock.fileno())
        self._sock.close()
        os.close(self._spare)
        for client in self._clients.values():
            client.release()
        self._clients.clear()
        try:
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            pass  # the folder has been removed already


def _as_line(fields: dict[str, object]) -> bytes:
    """Encode a reply.  ASCII only, so that lone surrogates from the user's shell are preserved."""
    return json.dumps(fields, default=msgspec.to_builtins).encode("ascii")


def _understood(line: bytes) -> tuple[str, dict[str, object]]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        # json, not msgspec: an argument from the user's shell may hold a lone surrogate, which msgspec refuses.
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
            pass  # the folder was removed again meanwhile
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
