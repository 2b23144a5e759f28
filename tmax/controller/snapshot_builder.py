"""Paints snapshots: the scheduler's state, the workers' use of the machine, the last tasks.

Only on request: between two snapshots no process is looked at.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tmax.controller.views import brief_label, explain, task_view
from tmax.core import nesting
from tmax.core.events import TasksEnded
from tmax.core.model import Task, TaskState, WorkerState
from tmax.core.roster import Life
from tmax.core.snapshot import Snapshot, TaskView, WorkerView
from tmax.engines.engine import WorkerFigures
from tmax.storage.store_errors import full, removed
from tmax.version import __version__

if TYPE_CHECKING:
    from tmax.controller.loop import Controller

RECENT = 50
"""Tasks in a picture."""

ENDED_SHOWN = 15
"""Of those, how many may be ended ones however many wait."""


class SnapshotBuilder:
    """Makes a Snapshot of this moment."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._cpu: dict[int, tuple[float, float]] = {}
        self._last: deque[TaskView] = deque(maxlen=RECENT)

    def remember(self, action: TasksEnded) -> None:
        """Keep a line about the tasks that ended last."""
        for task in action.tasks[-RECENT:]:
            self._last.append(task_view(task))

    def paint(self) -> Snapshot:
        """Return the picture; costs about 30 microseconds a worker and 10 a task shown."""
        house, state = self._house, self._house.scheduler.state
        now = house.reactor.now()
        per_second = state.stats.per_second(now)
        return Snapshot(
            swarm=house.layout.swarm,
            controller_pid=os.getpid(),
            epoch=house.epoch,
            version=__version__,
            at=time.time(),
            uptime_s=now - house.born,
            ready=state.roster.ready_once,
            held=state.held,
            draining=state.leaving is not None,
            workers_wanted=state.roster.workers_wanted,
            workers=self.workers(),
            tasks=dict(state.ledger.counts),
            tasks_per_min=float(sum(per_second)),
            ended_per_second=per_second,
            latency=state.stats.latency(),
            recent=self.recent(RECENT),
            deaths=state.roster.deaths,
            store_bytes=self._store_bytes(),
            commit_p50_s=state.stats.commit_p50_s(),
            durability=house.settings.store.durability,
            notice=self.notice(),
        )

    def notice(self) -> str:
        """Return the one line a person should know, or nothing."""
        state = self._house.scheduler.state
        if self._house.store.removed:
            return f"{removed(self._house.layout).message}: nothing new is accepted, what runs is finished"
        if self._house.store.full:
            return f"{full(self._house.layout).message}: nothing new is accepted, what runs is recorded"
        if state.roster.gave_up:
            return "workers end before they are ready: no more are started (tmax doctor; then tmax resume)"
        obstacle = nesting.obstacle(state)
        if state.leaving is not None:
            return f"the swarm is going down; {obstacle}" if obstacle else "the swarm is going down"
        if state.held:
            return "the queue is held: tmax resume"
        if obstacle:
            return obstacle
        missing = self.missing()
        return f"not preloaded: {'; '.join(missing)}" if missing else ""

    def missing(self) -> list[str]:
        """Return the modules that workers were to preload and could not, each with the reason."""
        return sorted({one for life in self._house.scheduler.state.roster.lives.values() for one in life.missing})

    def _store_bytes(self) -> int:
        total = 0
        for path in (self._house.layout.database, f"{self._house.layout.database}-wal"):
            try:
                total += os.stat(path).st_size
            except OSError:
                continue  # no log file right after a checkpoint
        return total

    # -- workers -----------------------------------------------------------------------------------

    def workers(self) -> tuple[WorkerView, ...]:
        """Return the workers by number, pooled ones after them."""
        lives = sorted(self._house.scheduler.state.roster.lives.values(), key=lambda life: (life.pooled, life.number, life.id))
        known = {life.id for life in lives}
        for gone in self._cpu.keys() - known:
            del self._cpu[gone]
        figures = self._house.engine.figures(known)
        return tuple(self._worker(life, figures.get(life.id)) for life in lives)

    def _worker(self, life: Life, figures: WorkerFigures | None) -> WorkerView:
        state = self._house.scheduler.state
        terminals = self._house.engine.terminals
        session, pane = terminals.session_of(life.id) if terminals is not None else ("", "")
        task = state.ledger.tasks.get(life.running)
        cpu_percent = self._cpu_percent(life.id, figures.cpu_s) if figures is not None else None
        return WorkerView(
            name=life.name,
            life=life.id,
            pid=life.record.pid,
            session=session,
            pane=pane,
            state=self._state(life),
            task=task.id if task else None,
            task_label=brief_label(task.job) if task else "",
            task_since=task.lease.started_at if task and task.lease else None,
            cpu_percent=cpu_percent,
            rss_bytes=figures.rss_bytes if figures is not None else None,
            tasks_done=life.record.tasks_done,
            tasks_failed=life.tasks_failed,
            started_at=life.record.started_at,
            pooled=life.pooled,
            nested=state.roster.is_nested(life),
        )

    def _state(self, life: Life) -> str:
        quiet_s = self._house.reactor.now() - life.last_message_at
        if life.state is WorkerState.BUSY and quiet_s > self._house.settings.worker.silence_s:
            return "suspect"  # nothing but a word: missing beats never end a worker
        return life.state.value

    def _cpu_percent(self, life: int, cpu_s: float) -> float | None:
        """Return the use since the snapshot before; None at the first one, and when too little time has passed."""
        now = self._house.reactor.now()
        before = self._cpu.get(life)
        if before is not None and now - before[0] < 0.2:
            return None  # two clients at once: too short to mean anything
        self._cpu[life] = (now, cpu_s)
        return None if before is None else max(0.0, 100 * (cpu_s - before[1]) / (now - before[0]))

    # -- tasks -------------------------------------------------------------------------------------

    def recent(self, limit: int) -> tuple[TaskView, ...]:
        """Return what runs, then what waits (first in line first), then what ended last."""
        running = self.running()
        ended = list(reversed(self._last))
        kept_for_ended = min(ENDED_SHOWN, len(ended))
        waiting = self.waiting(max(0, limit - len(running) - kept_for_ended))
        return tuple([*running, *waiting, *ended][:limit])

    def begin_with(self, ended: list[Task]) -> None:
        """Show what ended before this controller began; newest first."""
        self._last.extendleft(task_view(task) for task in ended[: RECENT - len(self._last)])

    def running(self) -> list[TaskView]:
        """Return lines about the tasks that have started, longest first."""
        return [task_view(task) for task in self.started()]

    def started(self) -> list[Task]:
        """Return the tasks that have started, longest first."""
        tasks = self._house.scheduler.state.ledger.tasks
        started = [tasks[life.running] for life in self._house.scheduler.state.roster.lives.values() if life.running in tasks]
        return sorted(started, key=lambda task: task.id)

    def waiting(self, limit: int) -> list[TaskView]:
        """Return tasks that have not started, first in line first, each with the reason."""
        return [task_view(task, why) for task, why in itertools.islice(self.unstarted(), max(0, limit))]

    def unstarted(self) -> Iterator[tuple[Task, str]]:
        """Yield the tasks that have not started, first in line first, each with the reason.

        It may be left for a while and gone on with: a task is shown as it is when its turn comes, and left out when it has ended.
        """
        state = self._house.scheduler.state
        tasks = state.ledger.tasks
        sent = [number for life in state.roster.lives.values() for number in life.held if tasks[number].state is TaskState.SENT]
        ahead, seen = 0, set[int]()
        for number in itertools.chain(sent, state.ready.in_order(), _paused(state.delayed.copy())):
            task = tasks.get(number)
            if task is not None and number not in seen:
                seen.add(number)
                yield task, explain(state, task, ahead)
                ahead += task.state is TaskState.READY


def _paused(delayed: list[tuple[float, int]]) -> Iterator[int]:
    """Yield the tasks whose pause runs, the first that ends first; takes the list apart."""
    while delayed:
        yield heapq.heappop(delayed)[1]
