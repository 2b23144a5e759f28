"""A small stand-in for a controller, in this process: a Unix socket that speaks the watch and logs verbs of the protocol."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading


class FeedServer:
    """Sends what the test says to whoever watches; answers ``logs`` with what the test has put there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.logs: dict[object, dict[str, object]] = {}
        self.asked: list[dict[str, object]] = []
        self.last: dict[str, object] | None = None
        self._watchers: list[socket.socket] = []
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        os.chmod(path, 0o600)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def watchers(self) -> int:
        with self._lock:
            return len(self._watchers)

    def push(self, snapshot: dict[str, object]) -> None:
        """Send a picture to all who watch, and first thing to those who come later."""
        with self._lock:
            self.last = snapshot
            for peer in self._watchers:
                peer.sendall(_line({"ok": True, "more": True, "snapshot": snapshot}))

    def close(self) -> None:
        """Go away like a controller that was killed: every connection ends, the socket's file stays."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for peer in self._sockets:
                try:
                    peer.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it went first
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as lines:
            for line in lines:
                self._answer(peer, json.loads(line))
            with self._lock:
                self._watchers = [other for other in self._watchers if other is not peer]

    def _answer(self, peer: socket.socket, ask: dict[str, object]) -> None:
        with self._lock:
            self.asked.append(ask)
            if ask["verb"] == "watch":
                self._watchers.append(peer)
                if self.last is not None:
                    peer.sendall(_line({"ok": True, "more": True, "snapshot": self.last}))
            else:
                peer.sendall(_line({"ok": True, **self.logs[ask["target"]]}))


def task_log(task: int, worker: str, *, tail: bytes = b"", file: str | None = None, live: bool = False) -> dict[str, object]:
    """Return the answer to ``logs`` of a task."""
    state = "running" if live else "done"
    return {"task": task, "state": state, "worker": worker, "file": file, "tail": base64.b64encode(tail).decode(), "live": live}


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode() + b"\n"
