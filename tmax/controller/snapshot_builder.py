"""Builds snapshots from the scheduler's state, the figures of the workers' processes, and the last tasks.

A snapshot is built only when a client requests one; no process is measured in between.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable

from tmax.controller.identity import Identity
from tmax.controller.views import brief_label, task_view
from tmax.core.events import TasksEnded
from tmax.core.model import Task, WorkerState
from tmax.core.query import SwarmQuery, WorkerFacts
from tmax.core.settings import Settings
from tmax.core.snapshot import Snapshot, TaskView, WorkerView
from tmax.engines.engine import Engine, WorkerFigures
from tmax.layout import Layout
from tmax.storage.store_errors import full, removed
from tmax.storage.task_store import TaskStore
from tmax.version import __version__

RECENT = 50
"""Tasks in a snapshot."""

ENDED_SHOWN = 15
"""Rows of a snapshot that are reserved for ended tasks."""


CPU_SPAN_S = 0.2
"""Shortest time between two readings of processor time that gives a usable percentage."""


class SnapshotBuilder:
    """Builds a Snapshot of the current state."""

    def __init__(
        self,
        query: SwarmQuery,
        *,
        engine: Engine,
        store: TaskStore,
        identity: Identity,
        layout: Layout,
        settings: Settings,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """``clock``: monotonic seconds; ``wall_clock``: UTC epoch seconds."""
        self._query = query
        self._engine = engine
        self._store = store
        self._identity = identity
        self._layout = layout
        self._settings = settings
        self._clock = clock
        self._wall_clock = wall_clock
        self._cpu: dict[int, tuple[float | None, float]] = {}
        """Life -> (time of the last reading, processor seconds until then)."""
        self._last: deque[TaskView] = deque(maxlen=RECENT)

    def on_ended(self, action: TasksEnded) -> None:
        """Keep the views of the tasks that ended last."""
        for task in action.tasks[-RECENT:]:
            self._last.append(task_view(task))

    def begin_with(self, ended: list[Task]) -> None:
        """Add tasks that ended before this controller began; newest first."""
        self._last.extendleft(task_view(task) for task in ended[: RECENT - len(self._last)])

    def build(self) -> Snapshot:
        """Return the snapshot; takes about 30 microseconds for each worker and 10 for each task shown."""
        query, identity = self._query, self._identity
        now = self._clock()
        per_second = query.ended_per_second(now)
        return Snapshot(
            swarm=identity.swarm,
            controller_pid=identity.pid,
            epoch=identity.epoch,
            version=__version__,
            at=self._wall_clock(),
            uptime_s=now - identity.started_at,
            ready=query.is_ready,
            held=query.is_held,
            draining=query.is_leaving,
            workers_wanted=query.workers_wanted,
            workers=self.workers(),
            tasks=dict(query.counts),
            tasks_per_min=float(sum(per_second)),
            ended_per_second=per_second,
            latency=query.latency(),
            recent=self._recent(RECENT),
            deaths=query.deaths,
            store_bytes=self._store_bytes(),
            commit_p50_s=query.commit_p50_s(),
            durability=self._settings.store.durability,
            notice=self.notice(),
        )

    def notice(self) -> str:
        """Return one line about the most urgent problem, or an empty text."""
        query = self._query
        if self._store.removed:
            return f"{removed(self._layout).message}: nothing new is accepted, running tasks are finished"
        if self._store.full:
            return f"{full(self._layout).message}: nothing new is accepted, running tasks are recorded"
        if query.has_given_up:
            return "workers end before they are ready: no more are started (tmax doctor; then tmax resume)"
        deadlock = query.deadlock()
        if query.is_leaving:
            return f"the swarm is going down; {deadlock}" if deadlock else "the swarm is going down"
        if query.is_held:
            return "the queue is held: tmax resume"
        if deadlock:
            return deadlock
        missing = sorted({one for worker in query.workers() for one in worker.missing})
        return f"not preloaded: {'; '.join(missing)}" if missing else ""

    def _store_bytes(self) -> int:
        total = 0
        for path in (self._layout.database, f"{self._layout.database}-wal"):
            try:
                total += os.stat(path).st_size
            except OSError:
                continue  # right after a checkpoint there is no write-ahead log
        return total

    # -- workers -----------------------------------------------------------------------------------

    def workers(self) -> tuple[WorkerView, ...]:
        """Return the workers sorted by number, pooled ones last."""
        workers = sorted(self._query.workers(), key=lambda worker: (worker.pooled, worker.number, worker.id))
        figures = self._engine.figures([worker.id for worker in workers])
        self._cpu = {life: used for life, used in self._cpu.items() if life in figures}
        return tuple(self._worker(worker, figures.get(worker.id)) for worker in workers)

    def _worker(self, worker: WorkerFacts, figures: WorkerFigures | None) -> WorkerView:
        terminals = self._engine.terminals
        session, pane = terminals.session_of(worker.id) if terminals is not None else ("", "")
        task = self._query.tasks.get(worker.running)
        return WorkerView(
            name=worker.name,
            life=worker.id,
            pid=worker.record.pid,
            session=session,
            pane=pane,
            state=self._state_of(worker),
            task=task.id if task else None,
            task_label=brief_label(task.job) if task else "",
            task_since=task.lease.started_at if task and task.lease else None,
            cpu_percent=self._cpu_percent(worker.id, figures.cpu_s) if figures else None,
            rss_bytes=figures.rss_bytes if figures else None,
            tasks_done=worker.record.tasks_done,
            tasks_failed=worker.tasks_failed,
            started_at=worker.record.started_at,
            pooled=worker.pooled,
            nested=self._query.is_nested(worker.id),
        )

    def _cpu_percent(self, life: int, used_s: float) -> float | None:
        """Return the percent of one core since the last reading; None for the first reading, or less than CPU_SPAN_S after the last."""
        now = self._clock()
        before_s, before_used_s = self._cpu.get(life, (None, 0.0))
        if before_s is not None and now - before_s < CPU_SPAN_S:
            return None  # two clients requested snapshots at once
        self._cpu[life] = (now, used_s)
        return None if before_s is None else max(0.0, 100 * (used_s - before_used_s) / (now - before_s))

    def _state_of(self, worker: WorkerFacts) -> str:
        quiet_s = self._clock() - worker.last_message_at
        if worker.state is WorkerState.BUSY and quiet_s > self._settings.worker.silence_s:
            return "suspect"  # shown only: missing heartbeats never end a worker
        return worker.state.value

    # -- tasks -------------------------------------------------------------------------------------

    def _recent(self, limit: int) -> tuple[TaskView, ...]:
        """Return running tasks, then waiting ones (the next one first), then those that ended last."""
        running = [task_view(task) for task in self._query.started()]
        ended = list(reversed(self._last))
        kept_for_ended = min(ENDED_SHOWN, len(ended))
        count = max(0, limit - len(running) - kept_for_ended)
        waiting = [task_view(task, why) for task, why in itertools.islice(self._query.unstarted(), count)]
        return tuple([*running, *waiting, *ended][:limit])
