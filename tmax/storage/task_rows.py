"""A task as a row: columns to search by, and two blobs that hold what is true.

    spec   what never changes (job included): written once, when the task is inserted
    moves  what changes: rewritten at each move, without the job beside it

A blob begins with a CRC-32 seeded by the row's number: SQLite's own check does not look inside values, and a
flipped bit in an argument vector would otherwise be run. Both are msgpack arrays; fields are only ever
appended, with a default, so that an older row stays readable.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from tmax.core.events import Changes
from tmax.core.model import Crash, Delivery, Lease, LifeRecord, Outcome, Task, TaskState
from tmax.errors import StoreError
from tmax_pipes.jobs import Blob, Job, PythonJob

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

CRC_BYTES = 4


class Spec(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What never changes in a task."""

    job: Job
    kind: str
    name: str
    request_id: str
    delivery: Delivery
    timeout_s: float
    retries: int
    deliveries: int
    grace_s: float
    submitted_at: float


class Moves(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What changes in a task."""

    state: TaskState
    priority: str
    attempt: int
    failures: int
    crashes: tuple[Crash, ...]
    lease: Lease | None
    unused: float = 0.0
    """Keeps the positions of the fields after it: rows of version 1 hold a time here that was never read."""
    cancelling: bool
    solo: bool
    ended_at: float
    outcome: Outcome | None
    ran_on: str


_encode = msgspec.msgpack.Encoder().encode
_spec_of = msgspec.msgpack.Decoder(Spec).decode
_moves_of = msgspec.msgpack.Decoder(Moves).decode
_life_of = msgspec.msgpack.Decoder(LifeRecord).decode

INSERT_TASK = (
    'INSERT INTO tasks (id, request_id, name, kind, state, priority, submitted_at, ended_at, attempt, worker, life, "group", moves)'
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_SPEC = "INSERT INTO specs (task, spec) VALUES (?, ?)"
MOVE_TASK = 'UPDATE tasks SET state = ?, priority = ?, attempt = ?, worker = ?, life = ?, "group" = ?, moves = ? WHERE id = ?'
"""Of a task that has not ended.  Without ``ended_at`` SQLite leaves the index of open tasks alone: a third less time."""
END_TASK = 'UPDATE tasks SET state = ?, priority = ?, ended_at = ?, attempt = ?, worker = ?, life = ?, "group" = ?, moves = ? WHERE id = ?'
REPLACE_LIFE = "INSERT OR REPLACE INTO lives (life, worker, alive, record) VALUES (?, ?, ?, ?)"
REPLACE_META = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
INSERT_BLOB = "INSERT OR IGNORE INTO blobs (task, digest) VALUES (?, ?)"


SELECT_TASK = "SELECT id, state, moves, spec FROM tasks LEFT JOIN specs ON task = id"
"""The columns that ``task_of`` reads."""


@functools.cache
def several(insert: str, count: int) -> str:
    """Return the statement that inserts ``count`` rows at once: half the time of as many single ones (5 us saved a row, SQLite 3.45)."""
    head, values = insert.split(" VALUES ")
    return f"{head} VALUES {', '.join([values] * count)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A turn's changes, ready for ``executemany``."""

    new_tasks: list[Row] = field(default_factory=list)
    specs: list[Row] = field(default_factory=list)
    moved: list[Row] = field(default_factory=list)
    ended: list[Row] = field(default_factory=list)
    lives: list[Row] = field(default_factory=list)
    meta: list[Row] = field(default_factory=list)
    blobs: list[Row] = field(default_factory=list)

    @property
    def weight_bytes(self) -> int:
        """About how far this moves the write-ahead log: blobs, and for each row a share of the pages it touches."""
        body = sum(len(row[-1]) for rows in (self.new_tasks, self.specs) for row in rows)
        body += sum(len(row[-2]) for rows in (self.moved, self.ended) for row in rows)
        return body + 512 * len(self.new_tasks) + 1024 * (len(self.moved) + len(self.ended)) + 8192


def batch_of(changes: Changes) -> Batch:
    """Encode a turn's changes. Raises StoreError, naming the task, for a value that cannot be written (it is out of 64 bits, or not text)."""
    return Batch(
        new_tasks=[_checked(_inserted, task) for task in changes.new_tasks],
        specs=[_checked(_spec, task) for task in changes.new_tasks],
        moved=[_checked(_moved, task) for task in changes.tasks if not task.ended],
        ended=[_checked(_updated, task) for task in changes.tasks if task.ended],
        lives=[(life.life, life.worker, life.alive, seal(life, life.life)) for life in changes.lives],
        meta=list(changes.meta.items()),
        blobs=[(task.id, digest) for task in (*changes.new_tasks, *changes.tasks) for digest in digests_of(task)],
    )


def _checked(encode: Any, task: Task) -> Row:
    try:
        row: Row = encode(task)
    except (OverflowError, TypeError, ValueError) as error:
        raise StoreError(f"task {task.id} cannot be written: {error}") from error
    return row


def _inserted(task: Task) -> Row:
    state, priority, *moved, _ = _updated(task)
    return (task.id, task.request_id or None, task.name or None, task.kind, state, priority, task.submitted_at, *moved)


def _spec(task: Task) -> Row:
    spec = Spec(
        job=task.job,
        kind=task.kind,
        name=task.name,
        request_id=task.request_id,
        delivery=task.delivery,
        timeout_s=task.timeout_s,
        retries=task.retries,
        deliveries=task.deliveries,
        grace_s=task.grace_s,
        submitted_at=task.submitted_at,
    )
    return (task.id, seal(spec, task.id))


def _updated(task: Task) -> Row:
    lease = task.lease
    moves = Moves(
        state=task.state,
        priority=task.priority,
        attempt=task.attempt,
        failures=task.failures,
        crashes=task.crashes,
        lease=lease,
        cancelling=task.cancelling,
        solo=task.solo,
        ended_at=task.ended_at,
        outcome=task.outcome,
        ran_on=task.ran_on,
    )
    ended_at = task.ended_at if task.ended else None
    worker, life, group = (lease.worker, lease.life, lease.group) if lease else (task.ran_on, 0, 0)
    return (task.state.value, task.priority, ended_at, task.attempt, worker, life, group, seal(moves, task.id), task.id)


def _moved(task: Task) -> Row:
    state, priority, _, *moved = _updated(task)
    return (state, priority, *moved)


def digests_of(task: Task) -> list[str]:
    """Return the blobs that are this task's alone: the body of its call, its result, its exception."""
    bodies: list[object] = [task.job.call] if isinstance(task.job, PythonJob) else []
    if task.outcome:
        bodies += [task.outcome.result, task.outcome.failure.error if task.outcome.failure else None]
    return [body.digest for body in bodies if isinstance(body, Blob)]


def seal(value: object, number: int) -> bytes:
    """Encode a value with its checksum in front."""
    data = _encode(value)
    return zlib.crc32(data, number & 0xFFFFFFFF).to_bytes(CRC_BYTES, "little") + data


def _open(decode: Any, sealed: object, number: int, what: str) -> Any:
    if not isinstance(sealed, bytes) or zlib.crc32(memoryview(sealed)[CRC_BYTES:], number & 0xFFFFFFFF) != int.from_bytes(
        sealed[:CRC_BYTES], "little"
    ):
        raise DamagedRow(what)
    try:
        return decode(memoryview(sealed)[CRC_BYTES:])
    except msgspec.MsgspecError as error:
        raise DamagedRow(what, str(error)) from error


class DamagedRow(StoreError):
    """A row's bytes are not what was written. Fields: ``what`` names the row."""

    def __init__(self, what: str, why: str = "its checksum is wrong") -> None:
        self.what = what
        super().__init__(f"{what} in the store is damaged: {why}", hint="stop the swarm (tmax down --now) and go back to tmax.db.snapshot")


def task_of(row: Row) -> Task:
    """Make a task from a row of SELECT_TASK. Raises DamagedRow."""
    number, state, moves_blob, spec_blob = row
    spec: Spec = _open(_spec_of, spec_blob, number, f"task {number}")
    moves: Moves = _open(_moves_of, moves_blob, number, f"task {number}")
    if moves.state != state:
        raise DamagedRow(f"task {number}", f"its state is {state!r} in one place and {moves.state.value!r} in another")
    return Task(
        id=number,
        job=spec.job,
        kind=spec.kind,
        name=spec.name,
        request_id=spec.request_id,
        priority=moves.priority,
        delivery=spec.delivery,
        timeout_s=spec.timeout_s,
        retries=spec.retries,
        deliveries=spec.deliveries,
        grace_s=spec.grace_s,
        submitted_at=spec.submitted_at,
        state=moves.state,
        attempt=moves.attempt,
        failures=moves.failures,
        crashes=moves.crashes,
        lease=moves.lease,
        cancelling=moves.cancelling,
        solo=moves.solo,
        ended_at=moves.ended_at,
        outcome=moves.outcome,
        ran_on=moves.ran_on,
    )


def life_of(row: Row) -> LifeRecord:
    """Make a life from (life, record). Raises DamagedRow."""
    number, sealed = row
    record: LifeRecord = _open(_life_of, sealed, number, f"life {number}")
    return record
