"""The life cycle of workers: start, Hello, loss of the connection, end; and filling empty slots.

The end of a connection does not mean the end of the process: only ``LifeEnded`` (reported by the kernel, with every process that
it left behind confirmed dead) lets a task be sent to another worker.
"""

from __future__ import annotations

import heapq

from msgspec.structs import replace

from tmax.core.events import KillLife, LifeConnected, LifeEnded, LifePaneless, LifeSilent, LifeStarted, NameLife, StartLife
from tmax.core.model import Task, TaskState, WorkerState
from tmax.core.retry_policy import after_death, outcome_of
from tmax.core.roster import Life
from tmax.core.state import SILENT_LIMIT_S, SchedulerState
from tmax.core.worker_messages import on_recalled, send_probe
from tmax_pipes.messages import PROTOCOL, Failure, Hello, Message, Recalled, Run, Stop

S = TaskState
W = WorkerState


def on_started_life(state: SchedulerState, event: LifeStarted) -> None:
    """Record the process that the engine started for a life."""
    life = state.roster.lives.get(event.life)
    if life is not None:
        state.move_life(life, pid=event.pid, ticks=event.ticks, session=event.session)


def on_connected(state: SchedulerState, event: LifeConnected) -> None:
    """Handle a worker's Hello: probe a new one, reconcile with one that connects again."""
    life = state.roster.lives.get(event.life)
    if life is None:
        state.actions.append(KillLife(life=event.life, why="it is no longer a worker of this swarm"))
        return
    life.last_message_at = state.now
    life.connection, life.missing = event.connection, event.hello.missing
    if event.hello.protocol != PROTOCOL and not life.retiring:
        life.retiring = True  # it is of another version and would not understand what it is sent
    if life.state is W.STARTING:
        send_probe(state, life)
    elif event.reconnected:
        _reconcile(state, life, event.hello)
    if life.retiring:
        state.retire(life, now=bool(state.leaving and state.leaving.now))


def _reconcile(state: SchedulerState, life: Life, hello: Hello) -> None:
    """Make both ends agree: send again what the worker lacks, and stop what it should not have."""
    again = life.link.to_resend(hello)
    known = {(one.task, one.attempt) for one in hello.holding}
    for number, attempt in known:
        if number and life.held.get(number) != attempt:
            state.send(life.id, Stop(task=number, attempt=attempt, why="cancel", grace_s=state.settings.tasks.grace_s))
    life.recalled.clear()
    for given in life.link.given_back(hello):
        on_recalled(state, life, given)
    if hello.protocol != PROTOCOL:
        for message in again:
            if isinstance(message, Run) and message.task:  # in another version's Run fields may have another meaning
                on_recalled(state, life, Recalled(task=message.task, attempt=message.attempt))
    for number, attempt in list(life.held.items()):
        if (number, attempt) not in known.union(hello.results):
            _check_started(state, life, state.ledger.tasks[number])
    state.resend(life, [message for message in again if still_held(life, message)])
    if life.state is W.SILENT and not life.held:
        send_probe(state, life)
    elif life.state is W.SILENT:
        life.state = W.BUSY


def still_held(life: Life, message: Message) -> bool:
    """Return whether a message that the link would send again concerns a task that this life still holds."""
    number = getattr(message, "task", 0)
    return not number or number in life.held


def _check_started(state: SchedulerState, life: Life, task: Task) -> None:
    """Requeue or interrupt a task that had started and that its worker lacks: at-most-once work cannot be sent again."""
    if task.state is not S.RUNNING:
        return
    state.release_task(life, task)
    if task.delivery == "at-least-once":
        state.requeue(task)
    else:
        failure = Failure(kind="signal", message="its worker lost it after it had started; it may have run")
        state.end(task, S.INTERRUPTED, outcome_of(failure))


def on_silent(state: SchedulerState, event: LifeSilent) -> None:
    """Mark a worker whose connection ended as silent."""
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
    """Retire a worker whose session is gone, after what it runs: it can no longer be watched."""
    life = state.roster.lives.get(event.life)
    if life is not None and not life.retiring:
        state.retire(life, now=False)


def on_ended_life(state: SchedulerState, event: LifeEnded) -> None:
    """Remove a life whose process ended; its tasks return to the queue, or end."""
    life = state.roster.lives.get(event.life)
    if life is None:
        return
    expected = life.retiring or bool(life.killed) or event.whole
    state.solo.pop(life.id, None)
    state.roster.remove_dead(life, state.now, cause=event.cause, expected=expected)
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


def on_deadline(state: SchedulerState, number: int, why: str) -> None:
    """Kill a life at its deadline, unless the reason for the deadline no longer holds."""
    life = state.roster.lives.get(number)
    if life is None:
        return
    if why == "silent" and (life.state is not W.SILENT or state.now - life.last_message_at < SILENT_LIMIT_S):
        return
    if why == "silent" and life.held:
        # C code that holds the interpreter's lock keeps its worker from answering for as long as it runs.
        # Ending it would run healthy work twice; its own time limit, a cancel or `down` may end it.
        heapq.heappush(state.deadlines, (state.now + SILENT_LIMIT_S, 0, number, why))
        return
    state.kill(number, why)


def keep_workers(state: SchedulerState) -> None:
    """Retire surplus workers, fill empty slots (from the pool where possible), and refill the pool."""
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
        _start_life(state, "")


def _fill(state: SchedulerState, name: str) -> None:
    spare = state.roster.warm_spare()
    if spare is None:
        _start_life(state, name)
        return
    state.move_life(spare, worker=name, context=state.reserved.pop(name, ""))
    state.actions.append(NameLife(life=spare.id, worker=name))


def _start_life(state: SchedulerState, name: str) -> None:
    life = state.roster.new_life(name, state.now, state.wall)
    state.move_life(life, context=state.reserved.pop(name, ""))
    state.actions.append(StartLife(life=life.id, worker=life.name))
