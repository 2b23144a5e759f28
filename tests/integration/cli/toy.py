"""A stand-in for a controller: a control socket that sends the replies a test has set."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Answer = dict[str, Any]
Reply = Answer | list[Answer] | None | Callable[[Answer], "Answer | list[Answer] | None"]
"""What a verb answers: one line, several, or None: the connection ends without an answer."""


class Toy:
    """Answers each verb from ``replies``; ``asked`` keeps every request."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tmy-", dir="/tmp"))
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
        }
        self.runtime = self.root / "run" / "tmax" / "default"
        self.state = self.root / "state" / "tmax" / "default"
        for folder in (self.runtime, self.state):
            folder.mkdir(parents=True, mode=0o700)
        (self.state / "settings.json").write_text("{}")
        self.replies: dict[str, Reply] = {}
        self.asked: list[Answer] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.runtime / "control.sock"))
        (self.runtime / "control.sock").chmod(0o600)
        self._listener.listen(16)
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                self.asked.append(request)
                for answer in self._answers(request):
                    if answer is None:
                        return
                    try:
                        peer.sendall(json.dumps(answer).encode() + b"\n")
                    except BrokenPipeError:
                        return  # the command was ended by its test

    def _answers(self, request: Answer) -> Iterator[Answer | None]:
        reply = self.replies.get(request["verb"], {"error": {"code": "usage", "message": f"unknown verb {request['verb']!r}", "hint": ""}})
        if callable(reply):
            reply = reply(request)
        yield from reply if isinstance(reply, list) else [reply]

    def close_socket(self) -> None:
        """Be gone, as a controller that was killed; twice is harmless."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._accepting.join(10)

    def close(self) -> None:
        """Stop and remove everything."""
        self.close_socket()
        for thread in self._threads:
            thread.join(10)
        shutil.rmtree(self.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
