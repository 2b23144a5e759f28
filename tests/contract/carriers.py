"""The engines under one handle: orders in, events out, and a watch over the order of events."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.hostile import HostileEngine
from tests.engine_rig import SETTINGS, Rig, settings_of
from tmax.core.events import Event, LifeConnected, LifeEnded, LifeMessage, LifeSilent, LifeStarted
from tmax.engines.engine import Engine
from tmax.engines.inline import InlineEngine
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor
from tmax_pipes.link import ControllerLink
from tmax_pipes.messages import Done, Hello, ToWorker


class Watch:
    """Takes the events of an engine and fails at the first one that the contract forbids."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.story: dict[int, str] = defaultdict(lambda: "asked")
        self.closed = False

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        assert not self.closed, f"{event} after close"
        life = event.life  # type: ignore[union-attr]
        before = self.story[life]
        assert before != "ended", f"{event} after the end of life {life}"
        if isinstance(event, LifeStarted):
            assert before == "asked", f"started twice: {event}"
            self.story[life] = "silent"
        elif isinstance(event, LifeConnected):
            assert before in ("silent", "talking"), f"greeted before it started: {event}"
            assert event.reconnected == (before == "silent"), f"{event} while {before}"
            self.story[life] = "talking"
        elif isinstance(event, LifeSilent):
            assert before == "talking", f"{event} while {before}"
            self.story[life] = "silent"
        elif isinstance(event, LifeMessage):
            assert before == "talking", f"{event} while {before}"
            assert not isinstance(event.message, Hello)
        elif isinstance(event, LifeEnded):
            assert event.cause
            self.story[life] = "ended"


class Carrier:
    """One engine.  Acts for the scheduler in one thing: sends again, after a reconnect, what a link remembers."""

    engine: Engine

    def __init__(self) -> None:
        self.watch = Watch()
        self.links: dict[int, ControllerLink] = defaultdict(ControllerLink)
        self._seen = 0

    def turn(self) -> None:
        """Let something happen."""
        raise NotImplementedError

    def work_unheard(self, life: int, until: Callable[[], bool]) -> None:
        """Let a worker go on without hearing it."""
        raise NotImplementedError

    def send(self, life: int, *messages: ToWorker) -> None:
        for message in messages:
            self.links[life].sent(message)
        self.engine.send(life, messages)

    def until(self, true: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        end = time.monotonic() + timeout_s
        while not (value := true()):
            assert time.monotonic() < end, "not true; events:\n" + "\n".join(map(repr, self.watch.events[-30:]))
            self.turn()
            for event in self.watch.events[self._seen :]:
                self._seen += 1
                if isinstance(event, LifeMessage):
                    self.links[event.life].received(event.message)
                elif isinstance(event, LifeConnected) and event.reconnected:
                    self.engine.send(event.life, self.links[event.life].to_resend(event.hello))  # type: ignore[arg-type]
        return value

    def of(self, kind: type[Any], life: int = 0) -> list[Any]:
        return [event for event in self.watch.events if isinstance(event, kind) and life in (0, event.life)]

    def done(self, life: int = 0) -> set[int]:
        return {event.message.task for event in self.of(LifeMessage, life) if isinstance(event.message, Done)}

    def start(self, *lives: int) -> None:
        self.engine.start([(life, f"w{life}") for life in lives])
        self.until(lambda: all(self.of(LifeConnected, life) for life in lives))

    def close(self) -> None:
        self.engine.close(sessions=True)


class InlineCarrier(Carrier):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tmi-", dir="/tmp"))
        layout = Layout("inline", str(self.root / "state"), str(self.root / "run"))
        for folder in (layout.state, layout.logs, layout.blobs, layout.runtime):
            private_folder(folder)
        self.layout = layout
        self.reactor = Reactor()
        self.engine = InlineEngine(layout, SETTINGS, self.reactor)
        self.engine.open(self.watch, epoch=1)

    def turn(self) -> None:
        self.reactor.run_once(0.02)

    def close(self) -> None:
        super().close()
        self.reactor.close()
        shutil.rmtree(self.root)


class RealCarrier(Carrier):
    """Real processes: of an engine (``tmux``, ``process``), made by a spawner (``exec``, ``zygote``)."""

    def __init__(self, engine: str, spawner: str) -> None:
        super().__init__()
        self.rig = Rig(settings_of(engine, spawner))
        self.rig.events = self.watch.events
        self.rig._listen()
        self.engine = self.rig.engine
        self.engine.open(self.watch, epoch=1)

    def turn(self) -> None:
        self.rig.reactor.run_once(0.1)

    def work_unheard(self, life: int, until: Callable[[], bool]) -> None:
        from tests.wait import wait_until

        wait_until(until)

    def close(self) -> None:
        self.rig.close()


class HostileCarrier(Carrier):
    def __init__(self, seed: int = 0, **odds: float) -> None:
        super().__init__()
        self.engine: HostileEngine = HostileEngine(seed, **odds)
        self.engine.open(self.watch, epoch=1)

    def turn(self) -> None:
        self.engine.step()

    def work_unheard(self, life: int, until: Callable[[], bool]) -> None:
        self.engine.work_unheard(life)
