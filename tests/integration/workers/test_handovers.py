"""From one task to the next in one process: limits, a context that was not taken whole, forked children of forked children."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import cloudpickle
from msgspec.structs import replace

from tests.integration.workers.harness import PYTHON, Bench, call, run, sh
from tests.integration.workers.test_python_jobs import value_of
from tests.wait import wait_until
from tmax_pipes.jobs import Context, Job, SubmitterEnvironment, encode_context, encode_submitter_environment
from tmax_pipes.messages import Done, Recalled, Stored

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMITS = {resource.RLIMIT_FSIZE: (100, -1), resource.RLIMIT_NOFILE: (200, 200)}


def limited(job: Job) -> Job:
    """The job of a program with limits, and a variable, of its own."""
    around = SubmitterEnvironment(env={b"PATH": os.environb[b"PATH"], b"MARK": b"of another program"}, limits=LIMITS)
    return replace(job, submitter_environment=encode_submitter_environment(around))


def test_a_command_and_its_log_have_no_limits_and_no_variables_of_the_task_before(worker: Bench):
    worker.say(run(1, limited(call(resource.getrlimit, resource.RLIMIT_NOFILE))), run(2, sh("ulimit -S -n; echo ${MARK:-none}; seq 10000")))
    assert value_of(worker, 1) == (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert worker.done(2).report.output_bytes > 40_000
    lines = (worker.state / "logs/2.log").read_text().splitlines()
    assert lines[:3] == [str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), "none", "1"]
    assert lines[-1] == "10000"
    worker.say(run(3, limited(call(resource.getrlimit, resource.RLIMIT_NOFILE))))
    assert value_of(worker, 3) == value_of(worker, 1), "and the next task of that program has them again"


def initialized(function: object, task: object = os.getpid) -> Job:
    """A job of an executor with this initializer."""
    context = Context(python=PYTHON, path=(), initializer=cloudpickle.dumps((function, (), {})), client="x")
    return replace(call(task), context=encode_context(context))


def leave() -> None:
    sys.exit(3)


def test_an_initializer_that_exits_has_failed(worker: Bench):
    worker.say(run(1, initialized(leave)))
    failure = worker.failed(1).failure
    assert (failure.kind, failure.message) == ("initializer", "the initializer raised SystemExit: 3")


def test_an_initializer_that_is_cancelled_is_not_begun_again_in_its_process(worker: Bench, folder: Path):
    mark = folder / "calls"

    def slow() -> None:
        import threading

        with mark.open("a") as file:
            file.write("called\n")
        threading.Event().wait(30)

    worker.say(run(1, initialized(slow), timeout_s=0.3), run(2, initialized(slow)))
    assert worker.failed(1).failure.kind == "timeout"
    assert wait_until(lambda: [one for one in worker.heard if isinstance(one, Recalled) and one.task == 2], story=worker.story)
    assert mark.read_text() == "called\n"


def grandchild() -> bytes:
    """A child's child finds the files that its parent opened, whatever their numbers."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
        grand = os.fork()
        if not grand:
            for file in files:
                try:
                    os.fstat(file)
                except OSError:
                    os.write(write, b"%d " % file)
            os._exit(0)
        os.waitpid(grand, 0)
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    lost = os.read(read, 1000)
    os.close(read)
    return lost


def test_what_a_forked_child_opens_its_own_children_have(worker: Bench):
    worker.say(run(1, call(grandchild)))
    assert value_of(worker, 1) == b""


def handler_in_child() -> int:
    import signal

    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    if not (child := os.fork()):
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)
    signal.signal(signal.SIGTERM, before)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_has_the_signal_handlers_of_its_task(worker: Bench):
    worker.say(run(1, call(handler_in_child)))
    assert value_of(worker, 1) == 7


def test_a_worker_that_starts_anew_keeps_its_folder_and_what_was_not_stored(bench: Bench, folder: Path):
    (folder / "own/numpy").mkdir(parents=True)
    (folder / "own/numpy/__init__.py").touch()
    bench.start("--preload", "numpy", cwd=folder)
    bench.greet()
    context = encode_context(Context(python=PYTHON, path=(str(folder / "own"),)))
    bench.say(run(1, call(os.getpid)), run(2, replace(call(os.getcwd), context=context, cwd=b"/usr")))
    bench.wait(Done)  # which the bench does not acknowledge
    first = bench.place
    assert first is not None
    wait_until(lambda: not Path(first.folder).exists(), story=bench.story)
    assert bench.wire is not None
    bench.wire.close()
    hello = bench.greet(n=first.n + 1)
    assert hello.pid == bench.pid, "the same process"
    assert b"\0--preload\0\0" in Path(f"/proc/{bench.pid}/cmdline").read_bytes(), "with nothing preloaded"
    assert hello.results == ((1, 1),), "nobody said that it is stored"
    bench.say(Stored(((1, 1),)), run(3, call(os.getcwd)))
    assert value_of(bench, 3) == str(folder)
