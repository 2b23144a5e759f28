"""Python callables in a real worker: results, failures, surroundings, cancel, stale code."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.integration.workers.harness import PYTHON, Bench, call, run
from tests.wait import wait_until
from tmax_pipes import blobs
from tmax_pipes.jobs import Blob, KernelJob, PythonJob
from tmax_pipes.messages import Beat, Go, Recalled, Started, Stop

# What travels by value, so that the worker need not find this file.
import cloudpickle  # isort: skip

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def value_of(bench: Bench, task: int, attempt: int = 1) -> object:
    """The result of a task, unpickled or parsed."""
    done = bench.done(task, attempt)
    data = blobs.load(bench.state / "blobs", done.result)
    return json.loads(data) if done.form == "json" else pickle.loads(data)


def target(name: str, *args: object, path: Path | None = None, **kwargs: object) -> PythonJob:
    """A job as ``tmax submit --py`` makes one."""
    return PythonJob(call=json.dumps([args, kwargs]).encode(), label=name, target=name, path=(str(path),) if path else (), python=PYTHON)


# -- results ---------------------------------------------------------------------------------------


def test_a_function_runs_and_its_result_comes_back(worker: Bench):
    worker.say(run(1, call(lambda x: x + 1, 41)))
    assert value_of(worker, 1) == 42
    report = worker.done(1).report
    assert report.duration_s >= 0
    assert report.peak_rss_bytes > 1_000_000
    assert abs(report.started_at - worker.wait(Started).at) < 1.0


def test_a_thousand_tasks_come_back_in_order_each_started_before_it_ended(worker: Bench):
    worker.say(*[run(task, call(lambda: None)) for task in range(1, 1001)])
    worker.outcome(1000, timeout_s=20)
    told = [(type(one).__name__, one.task) for one in worker.heard if type(one).__name__ in {"Started", "Done"}]
    assert told == [(what, task) for task in range(1, 1001) for what in ("Started", "Done")]


def test_a_large_result_and_a_large_body_travel_as_files(worker: Bench):
    big = bytes(300_000)
    job = call(lambda data: data + b"!", big)
    body = blobs.body_of(worker.state / "blobs", job.call)
    assert isinstance(body, Blob)
    worker.say(run(1, PythonJob(call=body, label="big", python=PYTHON)))
    assert value_of(worker, 1) == big + b"!"
    assert isinstance(worker.done(1).result, Blob)


def test_targets_take_json_and_give_json_or_a_pickle(worker: Bench):
    worker.say(run(1, target("operator:add", 2, 3)), run(2, target("builtins:complex", 1, 2)), run(3, target("os.path:join", "a", "b")))
    assert (worker.done(1).form, worker.done(1).result) == ("json", b"5")
    assert worker.done(2).form == "pickle"
    assert value_of(worker, 2) == complex(1, 2)
    assert value_of(worker, 3) == "a/b"


def test_a_class_of_the_submitters_script_comes_back(worker: Bench):
    class Point:
        def __init__(self) -> None:
            self.x = 3

    worker.say(run(1, call(Point)))
    assert value_of(worker, 1).x == 3  # type: ignore[attr-defined]


def test_a_kernel_runs_here(worker: Bench):
    worker.say(run(1, KernelJob(name="matmul", params={"n": 32}, device="cpu", backend="numpy")), run(2, KernelJob(name="nonesuch")))
    assert json.loads(worker.done(1, timeout_s=30).result)["kernel"] == "matmul"  # type: ignore[arg-type]
    assert worker.done(1).report.device == "cpu"
    assert worker.failed(2).failure.kind == "refused"


# -- failures --------------------------------------------------------------------------------------


def boom() -> None:
    raise ValueError("no good")


def test_an_exception_comes_back_with_the_remote_traceback_and_without_our_frames(worker: Bench):
    worker.say(run(1, call(boom)))
    failure = worker.failed(1).failure
    assert (failure.kind, failure.message) == ("exception", "ValueError: no good")
    assert "in boom" in failure.traceback
    assert "tmax_workers" not in failure.traceback
    assert isinstance(failure.error, bytes)
    assert repr(pickle.loads(failure.error)) == "ValueError('no good')"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")])
def test_what_would_end_a_process_is_only_a_failure(worker: Bench, error: BaseException):
    def throw() -> None:
        raise error

    worker.say(run(1, call(throw)), run(2, call(lambda: "alive")))
    assert worker.failed(1).failure.message.startswith(type(error).__name__)
    assert value_of(worker, 2) == "alive"


def test_endless_recursion_is_a_failure(worker: Bench):
    def deeper() -> None:
        deeper()

    worker.say(run(1, call(deeper)), run(2, call(lambda: "alive")))
    assert "RecursionError" in worker.failed(1).failure.message
    assert value_of(worker, 2) == "alive"


def test_exceptions_that_misbehave_hurt_nobody(worker: Bench):
    class BadText(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class BadPickle(Exception):
        def __reduce__(self) -> str:
            raise TypeError("not me")

    class TwoArguments(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    def throw(kind: str) -> None:
        raise {"text": BadText, "pickle": BadPickle}[kind]() if kind != "two" else TwoArguments(1, 2)

    worker.say(*[run(task, call(throw, kind)) for task, kind in enumerate(("text", "pickle", "two"), 1)])
    assert worker.failed(1).failure.message.startswith("BadText: (its text")
    assert (worker.failed(2).failure.kind, worker.failed(2).failure.error) == ("exception", None)
    assert worker.failed(3).failure.error is None, "it would not unpickle, so it is not sent"
    assert worker.failed(3).failure.message == "TwoArguments: 1 2"


def test_a_huge_message_still_fits_a_frame(worker: Bench):
    def throw() -> None:
        raise ValueError("x" * 5_000_000)

    worker.say(run(1, call(throw)))
    assert len(worker.failed(1).failure.message) <= 4000
    assert isinstance(worker.failed(1).failure.error, Blob)


def test_a_result_that_cannot_be_sent_names_its_type(worker: Bench):
    worker.say(run(1, call(lambda: (threading.Lock(), 1))), run(2, call(lambda: "alive")))
    failure = worker.failed(1).failure
    assert failure.kind == "unpicklable"
    assert "builtins.tuple" in failure.message
    assert "lock" in failure.message
    assert failure.hint
    assert value_of(worker, 2) == "alive"


def test_what_is_missing_is_named(worker: Bench):
    worker.say(
        run(1, target("no_such_module:f")),
        run(2, target("os.path:no_such_function")),
        run(3, target("os.path:sep")),
        run(4, PythonJob(call=b"cno_such_module\nf\n.", label="old.f", python=PYTHON)),
        run(5, PythonJob(call=Blob("0" * 64, 9), label="gone", python=PYTHON)),
        run(6, PythonJob(call=b"", label="f", python="2.7")),
    )
    failures = {task: worker.failed(task).failure for task in range(1, 7)}
    assert [failures[task].kind for task in range(1, 7)] == ["notfound", "notfound", "notfound", "notfound", "refused", "refused"]
    assert "no_such_module" in failures[1].message
    assert failures[1].traceback == "", "the message says all; our import machinery is no part of the user's story"
    assert "no_such_function" in failures[2].message
    assert "not callable" in failures[3].message
    assert "no_such_module" in failures[4].message
    assert "2.7" in failures[6].message
    assert PYTHON in failures[6].message


def test_a_module_whose_own_import_is_missing_tells_its_story(worker: Bench, folder: Path):
    (folder / "half_there.py").write_text("import not_installed_at_all\n")
    worker.say(run(1, target("half_there:f", path=folder)))
    failure = worker.failed(1).failure
    assert "not_installed_at_all" in failure.message
    assert "half_there.py" in failure.traceback


# -- surroundings ----------------------------------------------------------------------------------


def test_folder_environment_and_path_are_those_of_the_submitter_and_are_put_back(worker: Bench, folder: Path):
    (folder / "beside.py").write_text(
        "import os\ndef where():\n    return [os.getcwd(), os.environ.get('COLOUR'), os.environ.get('TMUX')]\n"
    )

    def plain() -> tuple[str, str | None]:
        return os.getcwd(), os.environ.get("COLOUR")

    env = {b"COLOUR": b"blue\xff", b"TMUX": b"theirs"}
    job = PythonJob(
        call=b"[[],{}]", label="where", target="beside:where", cwd=os.fsencode(folder), path=(str(folder),), env=env, python=PYTHON
    )
    worker.say(run(1, call(plain)), run(2, job), run(3, call(plain)))
    home = value_of(worker, 1)
    assert value_of(worker, 2) == [str(folder), "blue\udcff", None], "no tmux: neither the submitter's nor the worker's"
    assert value_of(worker, 3) == home


def test_a_folder_that_is_gone_is_refused(worker: Bench):
    worker.say(run(1, PythonJob(call=b"", label="f", target="os:getcwd", cwd=b"/no/such/place")))
    failure = worker.failed(1).failure
    assert failure.kind == "refused"
    assert "/no/such/place" in failure.message


def test_what_a_task_leaves_changed_is_put_back(worker: Bench):
    def mess() -> None:
        os.chdir("/")
        os.environ["LEFT"] = "over"
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sys.stdout = None
        sys.stderr.close()
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)

    def look() -> list[object]:
        print("seen")
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)]
        return [os.getcwd() == "/", os.environ.get("LEFT"), signal.SIG_DFL in handlers, signal.SIG_IGN in handlers]

    worker.say(run(1, call(mess)), run(2, call(look)))
    worker.done(1)
    assert value_of(worker, 2) == [False, None, False, False]
    assert worker.done(2).report.tail == b"seen\n"


def test_a_task_knows_its_number_and_the_worker_its_name(worker: Bench):
    worker.say(run(12, call(lambda: [os.environ.get(f"TMAX_{name}") for name in ("TASK_ID", "ATTEMPT", "WORKER", "SWARM", "LIFE")])))
    assert value_of(worker, 12) == ["12", "1", "w1", "dev", "1"]


def test_a_forked_child_neither_holds_the_connection_nor_works_on(worker: Bench):
    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            return -1  # the child comes back into the worker's code, and must go no further
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def hold() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        return pid

    worker.say(run(1, call(fork)), run(2, replace(call(hold), keep_background=True)))
    assert value_of(worker, 1) == 0
    child = value_of(worker, 2)
    assert isinstance(child, int)
    worker.kill()
    wait_until(lambda: not worker.pump(0.01), 5)
    os.kill(child, signal.SIGKILL)


def test_multiprocessing_works_in_a_task(worker: Bench):
    def pool() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(abs, [-1, -2, -3])

    worker.say(run(1, call(pool)))
    assert value_of(worker, 1) == [1, 2, 3]


# -- ask, limits, cancel ---------------------------------------------------------------------------


def test_a_task_that_asks_waits_for_go(worker: Bench, folder: Path):
    worker.say(run(1, call((folder / "ran").touch), needs_go=True))
    worker.wait(Started)
    worker.pump(0.1)
    assert not (folder / "ran").exists()
    worker.say(Go(1, 1))
    worker.done(1)
    assert (folder / "ran").exists()


def sleep() -> None:
    threading.Event().wait(60)


def test_started_is_told_while_the_task_runs_and_beats_follow(worker: Bench):
    worker.say(run(1, call(sleep)), run(2, call(int)))
    worker.wait(Started)
    beat = worker.wait(Beat, lambda one: one.task == 1)
    assert beat.rss_bytes > 1_000_000
    worker.say(Stop(1, 1))
    worker.failed(1)
    worker.done(2)
    assert worker.wait(Beat, lambda one: one.task == 0)


def test_cancel_interrupts_a_sleep(worker: Bench):
    worker.say(run(1, call(sleep)))
    worker.wait(Beat)
    worker.say(Stop(1, 1))
    failure = worker.failed(1).failure
    assert failure.kind == "cancelled"
    assert "in sleep" in failure.traceback
    worker.say(run(2, call(lambda: "alive")))
    assert value_of(worker, 2) == "alive"


def test_cancel_that_comes_before_the_code_begins_is_not_lost(worker: Bench):
    for task in range(1, 30):
        worker.say(run(task, call(sleep)), Stop(task, 1))
        assert worker.failed(task).failure.kind == "cancelled"


def test_a_timeout_ends_the_task_and_says_how_long_it_had(worker: Bench):
    worker.say(run(1, call(sleep), timeout_s=0.2))
    failed = worker.failed(1)
    assert (failed.failure.kind, failed.failure.message) == ("timeout", "timed out after 0.2 s")
    assert 0.2 <= failed.report.duration_s < 2.0


def test_a_busy_loop_in_python_can_be_cancelled(worker: Bench):
    def spin() -> None:
        while True:
            pass

    worker.say(run(1, call(spin), timeout_s=0.1))
    assert worker.failed(1).failure.kind == "timeout"


def test_a_task_that_swallows_its_end_is_still_cancelled(worker: Bench):
    def stubborn() -> str:
        try:
            threading.Event().wait(60)
        except BaseException:  # the subject of the test: a task that swallows TaskCancelled
            return "ignored"
        return "slept"

    worker.say(run(1, call(stubborn)))
    worker.wait(Beat)
    worker.say(Stop(1, 1))
    assert worker.failed(1).failure.kind == "cancelled"


def test_a_task_that_does_not_end_takes_its_worker_with_it_after_saying_so(worker: Bench):
    def immortal() -> None:
        while True:
            try:
                threading.Event().wait(60)
            except BaseException:  # the subject of the test: a task that nothing but a kill ends
                pass

    worker.say(run(1, call(immortal), timeout_s=0.1, grace_s=0.2), run(2, call(int)))
    failed = worker.failed(1)
    assert failed.failure.kind == "timeout"
    assert "killed" in failed.failure.hint
    assert worker.wait(Recalled).why == "drain"
    assert worker.wait_gone() == -signal.SIGKILL


def test_a_task_can_use_asyncio_and_the_next_ones_can_be_cancelled(worker: Bench):
    def loops() -> int:
        import asyncio

        async def wait() -> int:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
            await asyncio.sleep(0)
            return 5

        return asyncio.run(wait())

    worker.say(run(1, call(loops)), run(2, call(sleep), timeout_s=0.2))
    assert value_of(worker, 1) == 5
    assert worker.failed(2).failure.kind == "timeout"
    worker.type(b"\x03")
    worker.wait_screen("Ctrl-C: nothing runs")


# -- stale code ------------------------------------------------------------------------------------


def test_edited_code_is_not_run_by_a_worker_that_imported_the_old(worker: Bench, folder: Path):
    module = folder / "edited.py"
    module.write_text("def f():\n    return 'old'\n")
    worker.say(run(1, target("edited:f", path=folder)))
    assert value_of(worker, 1) == "old"
    module.write_text("def f():\n    return 'newer'\n")
    worker.say(run(2, target("edited:f", path=folder)), run(3, call(int)), run(4, KernelJob(name="nonesuch")))
    assert [worker.wait(Recalled, lambda one, task=task: one.task == task).why for task in (2, 3)] == ["stale", "stale"]
    worker.failed(4)
    assert not any(isinstance(one, Started) and one.task in {2, 3} for one in worker.heard), "it never said that they had started"


def test_code_edited_while_a_long_task_runs_is_noticed_before_the_next(worker: Bench, folder: Path):
    module = folder / "edited.py"
    module.write_text("def f():\n    return 'old'\n")
    script = textwrap.dedent(
        """
        import threading, pathlib, edited
        def edit(path):
            threading.Event().wait(0.1)
            pathlib.Path(path).write_text("def f():\\n    return 'newer'\\n")
        """
    )
    (folder / "editor.py").write_text(script)
    worker.say(run(1, target("editor:edit", str(module), path=folder)), run(2, target("edited:f", path=folder)))
    worker.done(1)
    assert worker.wait(Recalled).why == "stale"


def test_the_folder_for_temporary_files_is_each_submitters_own(worker: Bench, folder: Path):
    def place() -> str:
        import tempfile

        return tempfile.gettempdir()

    def job(name: str, cwd: bytes) -> PythonJob:
        (folder / name).mkdir()
        return replace(call(place), cwd=cwd, env={b"PATH": b"/usr/bin", b"TMPDIR": os.fsencode(folder / name)})

    worker.say(run(1, job("one", b"/not/there (deleted)")), run(2, job("two", os.fsencode(folder))))
    assert [value_of(worker, task) for task in (1, 2)] == [str(folder / "one"), str(folder / "two")]
