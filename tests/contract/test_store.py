"""What every store does: the one on disk and the one in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import fields, replace

from tests.contract.stores import ask, commit, commit_now, ended, life, new, open_store, place, put, rich, sent, trim
from tmax.core.model import ENDS, Outcome, Task, TaskState
from tmax.errors import StorageFull, StoreError
from tmax.storage.memory_store import MemoryStore
from tmax.storage.task_rows import Moves, Spec
from tmax.storage.task_store import TaskStore
from tmax_pipes.jobs import Blob, KernelJob, PythonJob


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskStore]:
    made: TaskStore = open_store(place(tmp_path)) if request.param == "sqlite" else MemoryStore()
    yield made
    made.close()


def test_a_new_store_is_empty(store: TaskStore) -> None:
    loaded = store.load()
    assert (loaded.tasks, loaded.lives, loaded.meta, loaded.counts) == ([], [], {}, {})
    assert (loaded.next_task, loaded.next_life) == (1, 1)


@pytest.mark.parametrize(
    "task",
    [
        new(1),
        rich(2),
        new(3, KernelJob(name="matmul", params={"n": 8, "f": 1.5, "b": True, "s": "x"}, device="cuda")),
        new(4, PythonJob(call=Blob("ab" * 32, 1 << 33), label="m.f", path=("/x",), env={b"A": b"\xff"}, python="3.11")),
        ended(new(5, PythonJob(call=b"\x80", label="f")), TaskState.DEAD),
        replace(ended(new(6)), outcome=Outcome(result=Blob("cd" * 32, 70_000), form="pickle")),
        new(7, name="a\x00b", request_id="'; DROP TABLE tasks; --"),
    ],
    ids=lambda task: f"task{task.id}",
)
def test_a_task_comes_back_as_it_was(store: TaskStore, task: Task) -> None:
    put(store, task)
    assert ask(store, lambda reader: reader.task(task.id)) == task


def test_every_field_of_a_task_is_written() -> None:
    written = {field.name for field in (*fields_of(Spec), *fields_of(Moves))} - {"unused"}  # a field of version 1 that no task has
    assert {field.name for field in fields(Task)} - {"id"} == written


def fields_of(kind: type) -> tuple[object, ...]:
    import msgspec.structs

    return msgspec.structs.fields(kind)


def test_load_gives_what_has_not_ended(store: TaskStore) -> None:
    tasks = [new(1), sent(new(2)), ended(new(3)), replace(new(4), state=TaskState.WAITING), ended(new(5), TaskState.CANCELLED)]
    put(store, *tasks)
    loaded = store.load()
    assert loaded.tasks == [tasks[0], tasks[1], tasks[3]]
    assert loaded.counts == {"done": 1, "cancelled": 1}
    assert loaded.next_task == 6


def test_moves_replace_what_changed(store: TaskStore) -> None:
    task = new(1, name="n", request_id="r")
    put(store, task)
    for step in (sent(task), replace(sent(task), state=TaskState.RUNNING), ended(sent(task))):
        assert commit(store, tasks=[step]).ok
        assert ask(store, lambda reader: reader.task(1)) == step
    assert store.load().tasks == []


@pytest.mark.parametrize("state", sorted(ENDS))
def test_an_end_without_a_time_is_an_end(store: TaskStore, state: TaskState) -> None:
    put(store, ended(new(1), state, at=0.0))
    assert store.load().tasks == []
    assert len(ask(store, lambda reader: reader.ended(5))) == 1


def test_one_commit_carries_everything(store: TaskStore) -> None:
    put(store, new(1))
    result = commit(store, new_tasks=[new(2)], tasks=[sent(new(1))], lives=[life(1), life(2, alive=False)], meta={"epoch": "3"})
    assert result.ok and result.error is None and result.seconds >= 0
    loaded = store.load()
    assert loaded.tasks == [sent(new(1)), new(2)]
    assert loaded.lives == [life(1)] and loaded.next_life == 3
    assert loaded.meta == {"epoch": "3"}


def test_a_life_and_a_word_are_replaced(store: TaskStore) -> None:
    assert commit(store, lives=[life(1)], meta={"held": "no"}).ok
    assert commit(store, lives=[life(1, tasks_done=5)], meta={"held": "yes"}).ok
    assert store.load().lives == [life(1, tasks_done=5)]
    assert store.load().meta == {"held": "yes"}
    assert commit(store, lives=[life(1, alive=False, cause="killed by SIGKILL")]).ok
    assert store.load().lives == [] and store.load().next_life == 2


def test_a_commit_of_nothing_is_well(store: TaskStore) -> None:
    assert commit(store).ok


def test_answers_come_in_the_order_of_the_questions(store: TaskStore) -> None:
    seen: list[object] = []
    last = threading.Event()
    from tmax.core.events import Changes

    for number in range(1, 30):
        store.commit(Changes(new_tasks=(new(number),)), lambda result: seen.append(result.ok))
        store.read(lambda reader: reader.last_ids(1), seen.append)
    store.read(lambda reader: None, lambda _: last.set())
    assert last.wait(30)
    assert seen == [x for number in range(1, 30) for x in (True, [number])]


def test_a_commit_at_once_is_as_good(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tmax.storage.store.NOW_S", 60.0)
    result = commit_now(store, new_tasks=[new(1)], meta={"epoch": "3"})
    assert result.ok and result.seconds >= 0
    assert ask(store, lambda reader: reader.task(1)) == new(1)
    twice = commit_now(store, new_tasks=[new(1)])
    assert not twice.ok and isinstance(twice.error, StoreError)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        commit_now(store, meta={"epoch": "4"})


def test_requests_are_found(store: TaskStore) -> None:
    put(store, *(new(n, request_id=f"r{n}") for n in range(1, 1300)), new(2000), new(2001))
    found = ask(store, lambda reader: reader.requests([f"r{n}" for n in range(0, 3000, 2)] + ["", "\udcff"]))
    assert found == {f"r{n}": n for n in range(2, 1300, 2)}


def test_a_request_is_never_kept_twice(store: TaskStore) -> None:
    put(store, new(1, request_id="r"))
    result = commit(store, new_tasks=[new(2, request_id="r"), new(3)])
    assert not result.ok and not isinstance(result.error, StorageFull)
    assert ask(store, lambda reader: reader.last_ids(5)) == [1]


def test_a_change_to_an_unknown_task_writes_nothing(store: TaskStore) -> None:
    put(store, new(1))
    result = commit(store, new_tasks=[new(2)], tasks=[sent(new(1)), sent(new(9))], meta={"a": "b"})
    assert not result.ok and "1 of 2" in str(result.error)
    assert ask(store, lambda reader: reader.tasks([1, 2, 9])) == {1: new(1)}
    assert store.load().meta == {}


def test_after_a_failure_nothing_is_written_any_more(store: TaskStore) -> None:
    put(store, new(1))
    first = commit(store, tasks=[sent(new(9))])
    again = commit(store, new_tasks=[new(2)])
    assert not again.ok and again.error is first.error
    assert not commit(store).ok
    assert ask(store, lambda reader: reader.last_ids(5)) == [1], "what is kept can still be read"


def test_names_ids_and_ranges(store: TaskStore) -> None:
    put(store, new(1, name="a"), new(2), new(5, name="b"), new(7, name="a"))
    assert ask(store, lambda reader: reader.named("a")) == 7
    assert ask(store, lambda reader: [reader.named(""), reader.named("c"), reader.named("\udcff")]) == [0, 0, 0]
    assert ask(store, lambda reader: reader.last_ids(2)) == [7, 5]
    assert ask(store, lambda reader: reader.last_ids(0)) == []
    assert ask(store, lambda reader: reader.between(2, 6)) == [2, 5]
    assert ask(store, lambda reader: reader.between(-(1 << 70), 1 << 70)) == [1, 2, 5, 7]
    assert ask(store, lambda reader: reader.tasks([7, 2, 3])) == {2: new(2), 7: new(7, name="a")}
    assert ask(store, lambda reader: reader.task(1 << 70)) is None
    assert ask(store, lambda reader: reader.tasks([])) == {}


def test_ended_lists_the_last_end_first(store: TaskStore) -> None:
    ends = [(1, "done", 50.0), (2, "failed", 20.0), (3, "done", 50.0), (4, "dead", 40.0)]
    put(store, *(ended(new(n), TaskState(state), at) for n, state, at in ends), new(5))
    ids = lambda *args, **more: ask(store, lambda reader: [task.id for task in reader.ended(*args, **more)])  # noqa: E731
    assert ids(10) == [3, 1, 4, 2]
    assert ids(2) == [3, 1]
    assert ids(0) == []
    assert ids(10, states={TaskState.DONE, TaskState.DEAD}) == [3, 1, 4]
    assert ids(10, states=["failed"]) == [2]
    assert ids(10, states=[]) == []
    assert ids(10, before=1) == [4, 2]
    assert ids(1, before=3) == [1]
    assert ids(10, states=["failed"], before=4) == [2]
    assert ids(10, before=5) == ids(10, before=99) == ids(10, before=1 << 70) == []


def test_trim_keeps_what_ended_last(store: TaskStore) -> None:
    put(store, *(ended(new(n), at=float(-n)) for n in range(1, 6)), new(6), ended(new(7), TaskState.FAILED, at=-100.0))
    assert sorted(trim(store, 2)) == [3, 4, 5, 7]
    assert ask(store, lambda reader: reader.last_ids(10)) == [6, 2, 1]
    assert trim(store, 2) == []
    assert store.load().counts == {"done": 5, "failed": 1}
    assert store.load().next_task == 8, "the id of a task that was trimmed is not used again"
    assert sorted(trim(store, 0)) == [1, 2]
    assert store.load().tasks == [new(6)]


def test_blobs_are_known_while_a_task_names_them(store: TaskStore) -> None:
    body = PythonJob(call=Blob("body", 70_000), label="f")
    done = replace(ended(new(1, body)), outcome=Outcome(result=Blob("result", 70_000), form="pickle"))
    put(store, new(1, body), ended(new(2, body), at=9999.0))
    assert commit(store, tasks=[done]).ok
    assert ask(store, lambda reader: reader.unreferenced(["body", "x", "result"])) == ["x"]
    assert trim(store, 1) == [1]
    assert ask(store, lambda reader: reader.unreferenced(["body", "result"])) == ["result"]
    assert trim(store, 0) == [2]
    assert ask(store, lambda reader: reader.unreferenced(["body", "result"])) == ["body", "result"]


def test_a_question_that_fails_is_answered(store: TaskStore) -> None:
    answer = ask(store, lambda reader: 1 // 0)
    assert isinstance(answer, StoreError) and "ZeroDivisionError" in answer.message
    put(store, new(1))


def test_a_closed_store_refuses(store: TaskStore) -> None:
    put(store, new(1))
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        commit(store)
    with pytest.raises(StoreError, match="closed"):
        ask(store, lambda reader: None)
