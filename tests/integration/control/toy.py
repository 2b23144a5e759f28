"""A controller in small: the shipped Server on the shipped Reactor, in a thread, with a handler that runs Python calls itself.

It stands in for nothing of ours in the tests of server, client and courier: what is behind the socket is not their subject.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tmax.control.protocol import BulkAccepted, BulkCancel, BulkEnd, BulkEnded, BulkRefused, BulkRequest, BulkSubmit, BulkTask
from tmax.control.server import ClientConnection, Request, Server
from tmax.errors import NotFound, StorageFull
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Failure


class Toy:
    """What it was asked, and how it is to behave: ``holding`` keeps tasks queued, ``mute`` accepts but does not say so."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.closed: list[int] = []
        self.clients: dict[int, ClientConnection] = {}
        self.open_requests: list[Request] = []
        self.known: dict[str, int] = {}
        self.tasks: dict[int, BulkTask] = {}
        self.ended: dict[int, BulkEnd] = {}
        self.messages = 0
        self.repeated = 0
        self.watchers: dict[int, ClientConnection] = {}
        self.holding = False
        self.mute = False
        self.full = False
        self.reactor: Reactor
        self.server: Server
        self._stop = False
        self._thread: threading.Thread | None = None
        self.start()

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen, as a controller that starts (again)."""
        self._stop = False
        self.reactor = Reactor()
        self.server = Server(self.layout.control, self.reactor, self)
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop:
            self.reactor.run_once(5.0)
        self.server.close()

    def stop(self) -> None:
        """End as a killed controller does: every connection ends, the tasks stay known."""
        if self._thread is not None:
            if self._thread.is_alive() and not self._stop:
                self.do(lambda: setattr(self, "_stop", True))
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._thread = None
            self.reactor.close()
            self.clients.clear()
            self.watchers.clear()

    def do(self, call: Any) -> None:
        """Run something on the loop's thread."""
        self.reactor.call_soon(call)

    # -- people's verbs ----------------------------------------------------------------------------

    def on_request(self, request: Request) -> None:
        self.heard.append((request.verb, request.fields))
        self.clients[request.client.number] = request.client
        getattr(self, f"verb_{request.verb}")(request)

    def verb_echo(self, request: Request) -> None:
        request.answer(**request.fields, pid=request.client.pid)

    def verb_count(self, request: Request) -> None:
        for number in range(int(str(request.fields["to"]))):
            request.stream(number=number)
        request.answer(done=True)

    def verb_later(self, request: Request) -> None:
        self.reactor.after(0.05, lambda: request.answer(late=request.fields.get("name")))

    def verb_never(self, request: Request) -> None:
        self.open_requests.append(request)

    def verb_missing(self, request: Request) -> None:
        raise NotFound("no such thing", hint="look elsewhere")

    def verb_flood(self, request: Request) -> None:
        self.open_requests.append(request)
        for _ in range(int(str(request.fields["lines"]))):
            request.stream(data="x" * 1024 * 1024)

    def verb_cancel(self, request: Request) -> None:
        ids: Any = request.fields["ids"]
        rows = []
        for number in ids:
            queued = number not in self.ended
            rows.append({"id": number, "was": "ready" if queued else "done", "now": "cancelled" if queued else "done"})
            if queued and not request.fields.get("dry_run"):
                self._end(number, BulkEnd(id=number, state="cancelled"))
        request.answer(results=rows)

    # -- bulk --------------------------------------------------------------------------------------

    def on_bulk(self, client: ClientConnection, request: BulkRequest) -> None:
        self.messages += 1
        self.clients[client.number] = client
        if isinstance(request, BulkSubmit):
            self._submit(client, request)
        elif isinstance(request, BulkCancel):
            raise NotFound("not in this toy")
        else:
            told = [self.ended.get(number) for number in request.ids if number in self.tasks]
            unknown = [BulkEnd(id=number, state="unknown") for number in request.ids if number not in self.tasks]
            self.watchers |= dict.fromkeys(request.ids, client)
            client.send_bulk([BulkEnded((*[end for end in told if end is not None], *unknown))])

    def _submit(self, client: ClientConnection, request: BulkSubmit) -> None:
        if self.full:
            error = StorageFull("the disk is full", hint="make room")
            client.send_bulk([BulkRefused(tuple(task.seq for task in request.tasks), error.code, error.message, error.hint)])
            return
        pairs = []
        for task in request.tasks:
            key = f"{request.client}:{task.seq}"
            self.repeated += key in self.known
            number = self.known.setdefault(key, len(self.known) + 1)
            self.tasks[number] = task
            self.watchers[number] = client
            pairs.append((task.seq, number))
        if self.mute:
            return
        client.send_bulk([BulkAccepted(tuple(pairs))])
        if not self.holding:
            ends = [self._run(number) for _, number in pairs]
            self.ended |= {end.id: end for end in ends}
            client.send_bulk([BulkEnded(tuple(ends))])

    def _run(self, number: int) -> BulkEnd:
        job = self.tasks[number].job
        assert isinstance(job, PythonJob) and isinstance(job.call, bytes)
        function, args, kwargs = pickle.loads(job.call)
        try:
            return BulkEnd(id=number, state="done", result=pickle.dumps(function(*args, **kwargs)), form="pickle", worker="toy")
        except Exception as error:  # the call's own
            failure = Failure(kind="exception", message=repr(error), error=pickle.dumps(error), traceback="Traceback of the toy")
            return BulkEnd(id=number, state="failed", failure=failure, worker="toy")

    def _end(self, number: int, end: BulkEnd) -> None:
        self.ended[number] = end
        if (client := self.watchers.get(number)) is not None:
            client.send_bulk([BulkEnded((end,))])

    def release(self) -> None:
        """Run what was held."""
        self.holding = False
        for number in self.tasks:
            if number not in self.ended:
                self._end(number, self._run(number))

    def on_closed(self, client: ClientConnection) -> None:
        self.closed.append(client.number)
        self.clients.pop(client.number, None)


@contextmanager
def toy() -> Iterator[Toy]:
    """A toy in folders of its own (short ones: a socket's path has at most 107 bytes)."""
    root = tempfile.mkdtemp(prefix="tmc-", dir="/tmp")
    layout = Layout("toy", f"{root}/state", f"{root}/run")
    for folder in (layout.state, layout.runtime, layout.blobs):
        os.mkdir(folder, 0o700)
    made = Toy(layout)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(root)


def main() -> None:
    """As ``python -m``: a controller for the tests of launch; the verb ``stop`` ends it."""
    import argparse
    import json
    import sys

    parser = argparse.ArgumentParser()
    for name in ("swarm", "state", "runtime"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    given = parser.parse_args()
    layout = Layout(given.swarm, given.state, given.runtime)
    say = f"{layout.state}/say"
    if os.path.exists(say):
        with open(say, encoding="utf-8") as file:
            what = file.read()
        if what == "die":
            sys.exit("boom: the reason stands in the log")
        if what == "hang":
            signal.pause()  # until the test kills it
        os.write(given.ready_fd, what.encode())
        return
    os.makedirs(layout.runtime, mode=0o700, exist_ok=True)

    class Single(Toy):
        def verb_about(self, request: Request) -> None:
            folder = os.getcwd()
            tmux = [key for key in os.environ if key.startswith("TMUX")]
            request.answer(cwd=folder, tmux=tmux, session=os.getsid(0) == os.getpid(), stdin=os.readlink("/proc/self/fd/0"))

        def verb_stop(self, request: Request) -> None:
            request.answer()
            self._stop = True

    made = Single(layout)
    os.write(given.ready_fd, json.dumps({"ok": True, "pid": os.getpid()}).encode() + b"\n")
    os.close(given.ready_fd)
    assert made._thread is not None
    made._thread.join()


if __name__ == "__main__":
    main()
