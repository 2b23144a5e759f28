"""Workers come, greet, fall silent and end; slots are filled again.

A connection that ended says nothing about the process: only ``LifeEnded`` (the kernel's word, with every process it
left behind confirmed dead) lets a task be sent to another worker.
"""

from __future__ import annotations

import heapq

from msgspec.structs import replace

from tmax.core.events import KillLife, LifeConnected, LifeEnded, LifePaneless, LifeSilent, LifeStarted, NameLife, StartLife
from tmax.core.model import Task, TaskState, WorkerState
from tmax.core.retry_policy import after_death, outcome_of
from tmax.core.roster import Life
from tmax.core.state import SILENT_LIMIT_S, SchedulerState
from tmax.core.worker_messages import on_recalled, prove
from tmax_pipes.messages import PROTOCOL, Failure, Hello, Message, Stop

S = TaskState
W = WorkerState


def on_started_life(state: SchedulerState, event: LifeStarted) -> None:
    """The engine has a process for it."""
    life = state.roster.lives.get(event.life)
    if life is not None:
        state.move_life(life, pid=event.pid, ticks=event.ticks, session=event.session)


def on_connected(state: SchedulerState, event: LifeConnected) -> None:
    """A worker said Hello."""
    life = state.roster.lives.get(event.life)
    if life is None:
        state.actions.append(KillLife(life=event.life, why="not a worker of this swarm any more"))
        return
    life.last_message_at = state.now
    life.connection, life.missing = event.connection, event.hello.missing
    if event.hello.protocol != PROTOCOL and not life.retiring:
        life.retiring = True  # of another version: it would not understand what it is sent
    if life.state is W.STARTING:
        prove(state, life)
    elif event.reconnected:
        _reconcile(state, life, event.hello)
    if life.retiring:
        state.retire(life, now=bool(state.leaving and state.leaving.now))


def _reconcile(state: SchedulerState, life: Life, hello: Hello) -> None:
    """Bring both ends to one story: what the worker lacks is sent again, what it should not have is ended."""
    again = life.link.to_resend(hello)
    known = {(one.task, one.attempt) for one in hello.holding}
    for number, attempt in known:
        if number and life.held.get(number) != attempt:
            state.send(life.id, Stop(task=number, attempt=attempt, why="cancel", grace_s=state.settings.tasks.grace_s))
    life.recalled.clear()
    for given in life.link.given_back(hello):
        on_recalled(state, life, given)
    for number, attempt in list(life.held.items()):
        if (number, attempt) not in known.union(hello.results):
            _check_started(state, life, state.ledger.tasks[number])
    state.resend(life, [message for message in again if still_held(life, message)])
    if life.state is W.SILENT and not life.held:
        prove(state, life)
    elif life.state is W.SILENT:
        life.state = W.BUSY


def still_held(life: Life, message: Message) -> bool:
    """Return whether what the link would say again is about something this life still has."""
    number = getattr(message, "task", 0)
    return not number or number in life.held


def _check_started(state: SchedulerState, life: Life, task: Task) -> None:
    """A worker lacks a task that had started (it began anew): what may run only once cannot be sent again."""
    if task.state is not S.RUNNING:
        return
    state.leave(life, task)
    if task.delivery == "at-least-once":
        state.requeue(task)
    else:
        why = Failure(kind="signal", message="its worker lost it after it had started; it may have run")
        state.end(task, S.INTERRUPTED, outcome_of(why))


def on_silent(state: SchedulerState, event: LifeSilent) -> None:
    """Its connection ended."""
    life = state.roster.lives.get(event.life)
    if life is None:
        return
    if life.state in (W.IDLE, W.BUSY):
        life.state = W.SILENT
    watch_silence(state, life)


def watch_silence(state: SchedulerState, life: Life) -> None:
    """End this life when it is still silent after SILENT_LIMIT_S."""
    life.last_message_at = state.now
    heapq.heappush(state.deadlines, (state.now + SILENT_LIMIT_S, 0, life.id, "silent"))


def on_paneless(state: SchedulerState, event: LifePaneless) -> None:
    """Its session is gone: nobody can watch it, so it leaves after what it runs."""
    life = state.roster.lives.get(event.life)
    if life is not None and not life.retiring:
        state.retire(life, now=False)


def on_ended_life(state: SchedulerState, event: LifeEnded) -> None:
    """The kernel says it is over: what it held goes back, or ends."""
    life = state.roster.lives.get(event.life)
    if life is None:
        return
    asked = life.retiring or bool(life.killed) or event.whole
    state.solo.pop(life.id, None)
    state.roster.died(life, state.now, cause=event.cause, asked=asked)
    state.ledger.life(replace(life.record, alive=False, ended_at=state.wall, cause=event.cause))
    culprit = life.running or (next(iter(life.held)) if len(life.held) == 1 else 0)
    for number in list(life.held):
        _redeliver(state, life, state.ledger.tasks[number], event, culprit=number == culprit)


def _redeliver(state: SchedulerState, life: Life, task: Task, event: LifeEnded, *, culprit: bool) -> None:
    if task.id in life.withdrawn:
        task = replace(task, cancelling=True)
    verdict = after_death(task, life, event, culprit=culprit, wall=state.wall, leaving=state.leaving is not None and life.retiring)
    if verdict.to is S.READY:
        state.requeue(task, crashes=verdict.crashes, solo=verdict.solo)
    else:
        state.end(replace(task, crashes=verdict.crashes), verdict.to, verdict.outcome)


def overdue(state: SchedulerState, number: int, why: str) -> None:
    """A life's deadline has come."""
    life = state.roster.lives.get(number)
    if life is None:
        return
    if why == "silent" and (life.state is not W.SILENT or state.now - life.last_message_at < SILENT_LIMIT_S):
        return
    if why == "silent" and life.held:
        # C code that does not let go of the interpreter keeps its worker from answering for as long as it runs.
        # Ending it would run healthy work twice; its own time limit, a cancel or `down` may end it.
        heapq.heappush(state.deadlines, (state.now + SILENT_LIMIT_S, 0, number, why))
        return
    state.kill(number, why)


def keep_workers(state: SchedulerState) -> None:
    """Let surplus workers go, fill empty slots (from the pool when it can), and refill the pool behind."""
    roster = state.roster
    for life in roster.surplus():
        state.retire(life, now=False)
    if roster.gave_up or state.now < roster.not_before:
        return
    taken = roster.slots()
    for name in roster.wanted_names() if state.leaving is None else roster.nested_names():
        if name not in taken:
            _fill(state, name)
    if state.leaving is not None:
        return
    missing = roster.pool_wanted - len(roster.pooled())
    for _ in range(missing if roster.ready_once else 0):
        _begin(state, "")


def _fill(state: SchedulerState, name: str) -> None:
    spare = state.roster.warm_spare()
    if spare is None:
        _begin(state, name)
        return
    state.move_life(spare, worker=name, context=state.reserved.pop(name, ""))
    state.actions.append(NameLife(life=spare.id, worker=name))


def _begin(state: SchedulerState, name: str) -> None:
    life = state.roster.begin(name, state.now, state.wall)
    state.move_life(life, context=state.reserved.pop(name, ""))
    state.actions.append(StartLife(life=life.id, worker=life.name))
