"""A worker and its controllers: announcing, losing one, finding the next, leaving."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle

from tests.integration.workers.harness import PYTHON, ROOT, Bench, call, run, sh
from tests.wait import wait_until
from tmax_pipes import rendezvous
from tmax_pipes.messages import Done, Failed, Hello, Holding, Recall, Recalled, Run, Started, Stop, Stored, Who
from tmax_pipes.proc_stat import start_ticks
from tmax_workers import spill

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_for(path: str) -> str:
    """In the worker: wait until the test makes a file."""
    while not os.path.exists(path):
        threading.Event().wait(0.005)
    return "whole"


def cpu_ticks(pid: int) -> int:
    """User and system time of a process in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def switches(pid: int) -> list[str]:
    """How often each thread of a process was given the processor."""
    statuses = [path.read_text() for path in sorted(Path(f"/proc/{pid}/task").glob("*/status"))]
    return [line for text in statuses for line in text.splitlines() if "_ctxt_switches" in line]


def test_it_announces_itself_with_its_place(bench: Bench):
    bench.start()
    said = bench.next_announcement()
    assert said == {"verb": "announce", "life": 1, "place": f"{bench.rt}/1.1"}
    hello = bench.greet()
    assert (hello.life, hello.pid, hello.ticks) == (1, bench.pid, start_ticks(bench.pid))
    assert hello.python.startswith(PYTHON)


def test_it_waits_for_a_controller_that_comes_later(bench: Bench):
    bench.leave()
    bench.start()
    wait_until(lambda: rendezvous.scan(bench.rt), story=bench.story)
    bench.listen()
    assert bench.next_announcement()["life"] == 1
    bench.greet()
    bench.say(run(1, call(int)))
    bench.done(1)


def test_who_again_on_one_connection_renames_and_greets_again(worker: Bench):
    worker.say(Who(1, "dev", "w9", 2))
    wait_until(lambda: worker.pump(0.05) and sum(isinstance(one, Hello) for one in worker.heard) == 2, story=worker.story)
    worker.wait_screen("tmax w9 in swarm dev")
    worker.say(run(1, sh("echo $TMAX_WORKER $OMP_NUM_THREADS")), run(2, call(lambda: os.environ["OMP_NUM_THREADS"])))
    assert worker.done(1).report.tail == b"w9 2\n"
    assert b"2" in worker.done(2).result  # type: ignore[operator]


def test_fifos_removed_before_anybody_used_them_are_made_again(bench: Bench):
    bench.leave()
    bench.start()
    first = wait_until(lambda: rendezvous.scan(bench.rt), story=bench.story)
    shutil.rmtree(bench.rt)
    bench.rt.mkdir(mode=0o700)
    bench.listen()
    told = bench.next_announcement()
    assert told["place"] != first[0].folder
    bench.greet()
    bench.say(run(1, call(int)))
    bench.done(1)


def test_a_controller_that_cannot_find_the_fifos_hangs_up_and_gets_others(bench: Bench):
    bench.start()
    told = bench.next_announcement()
    shutil.rmtree(told["place"])
    bench._callers.pop().close()
    assert bench.next_announcement()["place"] != told["place"]
    bench.greet(n=2)
    bench.say(run(1, call(int)))
    bench.done(1)


def test_a_dead_controller_costs_nothing(bench: Bench, folder: Path):
    bench.start()
    bench.next_announcement()
    bench.greet()
    bench.say(run(1, call(int)), run(2, call(wait_for, f"{folder}/go")), run(3, call(int)))
    bench.wait(Done, lambda one: one.task == 1)
    bench.wait(Started, lambda one: one.task == 2)
    bench.leave()
    bench.listen()
    assert bench.next_announcement()["place"].endswith("/1.2")
    hello = bench.greet(epoch=2, n=2)
    assert hello.holding == (Holding(2, 1, "running"), Holding(3, 1, "queued"))
    assert hello.results == ((1, 1),)
    bench.done(1)
    (folder / "go").touch()
    bench.done(2)
    bench.done(3)
    assert not (bench.rt / "1.1").exists()
    assert bench.drain() == 0
    assert list(bench.rt.iterdir()) == []


def test_it_lives_through_many_controllers(bench: Bench):
    bench.start()
    for n in range(1, 12):
        bench.greet(epoch=n, n=n)
        bench.say(run(n, call(int)))
        bench.done(n)
        bench.leave()
    assert len(os.listdir(f"/proc/{bench.pid}/fd")) < 30, "no descriptor is left from each"
    bench.greet(epoch=99, n=12)
    assert bench.drain() == 0


def test_garbage_ends_the_connection_and_not_the_worker(worker: Bench):
    assert worker.wire is not None
    worker.wire.transport.write("control", b"this is not a frame of anyone")
    wait_until(lambda: not worker.pump(0.01), story=worker.story)
    worker.greet(n=2)
    worker.say(run(1, call(int)))
    worker.done(1)


def test_a_frame_of_another_epoch_ends_the_connection(worker: Bench):
    assert worker.wire is not None
    worker.wire.epoch = 7
    worker.say(run(1, call(int)))
    wait_until(lambda: not worker.pump(0.01), story=worker.story)
    assert worker.greet(n=2).holding == (), "what it said was not believed"


def test_recall_and_stop_reach_a_busy_worker(worker: Bench, folder: Path):
    worker.say(run(1, call(wait_for, f"{folder}/go")), run(2, call(int)), run(3, call(int)))
    worker.wait(Started)
    worker.say(Recall(2, 1), Stop(3, 1))
    assert worker.wait(Recalled) == Recalled(2, 1, "asked")
    assert worker.failed(3).failure.kind == "cancelled"
    (folder / "go").touch()
    worker.done(1)


def test_results_are_kept_until_stored(worker: Bench):
    worker.say(run(1, call(int)))
    worker.wait(Done)
    worker.say(Who(1, "dev", "w1"))
    wait_until(lambda: worker.pump(0.05) and sum(isinstance(one, Done) for one in worker.heard) == 2, story=worker.story)
    worker.say(Stored(((1, 1),)), Who(1, "dev", "w1"))
    wait_until(lambda: worker.pump(0.05) and sum(isinstance(one, Hello) for one in worker.heard) == 3, story=worker.story)
    hellos = [one for one in worker.heard if isinstance(one, Hello)]
    assert [one.results for one in hellos] == [(), ((1, 1),), ()]


def test_drain_leaves_nothing_behind(worker: Bench):
    worker.say(run(1, call(print, "x")))
    worker.done(1)
    assert worker.drain() == 0
    assert list(worker.rt.iterdir()) == []
    assert list((worker.state / "logs").iterdir()) == []


def test_now_ends_the_running_task_first(worker: Bench):
    worker.say(run(1, call(wait_for, "/never")), run(2, call(int)))
    worker.wait(Started)
    worker.say(Stop(why="now", grace_s=5))
    assert worker.wait(Recalled).task == 2
    assert worker.wait_gone() == 0
    assert not [one for one in worker.heard if isinstance(one, Failed)], "nobody cancelled it: it is not reported"


def test_term_is_a_death_by_that_signal_that_keeps_what_was_returned(worker: Bench):
    worker.say(run(1, call(int)), run(2, call(wait_for, "/never")))
    worker.wait(Started, lambda started: started.task == 2)
    worker.leave()
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait_gone() == -signal.SIGTERM
    (kept,) = spill.read(str(worker.state), 1)
    assert (kept.task, type(kept).__name__) == (1, "Done")
    spill.forget_others(str(worker.state), {2})
    assert spill.read(str(worker.state), 1) == []


def leave_upon_term(path: str) -> None:
    """In the worker: a task with a handler of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    wait_for(path)


def test_a_task_that_leaves_upon_term_by_a_handler_of_its_own_is_not_reported_either(worker: Bench):
    for life in range(3):
        worker.say(run(1 + life, call(wait_for, "/")))
    worker.say(run(9, call(leave_upon_term, "/never")))
    worker.wait(Started, lambda started: started.task == 9)
    wait_until(lambda: "leave_upon_term" in worker.screen, story=worker.story)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait_gone() == -signal.SIGTERM
    worker.pump(0.1)
    assert not [one for one in worker.heard if isinstance(one, Failed)]


def test_an_orphan_finishes_keeps_its_result_and_leaves(bench: Bench, folder: Path):
    bench.start("--orphan-ttl-s", "0.3")
    bench.greet()
    bench.say(run(1, call(wait_for, f"{folder}/go")), run(2, call(int)))
    bench.wait(Started)
    bench.leave()
    bench.wait_screen("▶ 1")
    threading.Event().wait(0.4)
    assert bench.alive(), "the running task is finished"
    (folder / "go").touch()
    assert bench.wait_gone() == 0
    (kept,) = spill.read(str(bench.state), 1)
    spill.forget_others(str(bench.state), ())
    assert isinstance(kept, Done)
    assert list(bench.rt.iterdir()) == []


def test_a_worker_nobody_wants_leaves(bench: Bench):
    bench.leave()
    bench.start("--orphan-ttl-s", "0.2")
    assert bench.wait_gone() == 0
    assert list(bench.rt.iterdir()) == []


def test_an_idle_worker_uses_no_cpu_and_sends_nothing(worker: Bench):
    worker.say(run(1, call(int)))
    worker.done(1)
    worker.pump(0.3)
    worker.heard.clear()
    before = cpu_ticks(worker.pid)
    before_switches = switches(worker.pid)
    threading.Event().wait(1.0)
    worker.pump(0)
    assert worker.heard == []
    assert cpu_ticks(worker.pid) == before
    assert switches(worker.pid) == before_switches, "not even a wake"


def test_starting_imports_nothing_heavy(folder: Path):
    code = "import sys, tmax_workers.runtime; print([m for m in sys.modules if m.split('.')[0] in sys.argv[1].split(',')])"
    heavy = "pydantic,typer,textual,asyncio,numpy,torch,psutil,libtmux,tmax,argparse"
    env = {"PYTHONPATH": f"{ROOT / 'workers'}:{ROOT / 'pipes'}"}
    done = subprocess.run([sys.executable, "-P", "-c", code, heavy], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "[]"


def test_a_wrong_command_line_says_so(folder: Path):
    env = {"PYTHONPATH": f"{ROOT / 'workers'}:{ROOT / 'pipes'}"}
    for options in ([], ["--life"], ["--life", "x", "--rt", "r", "--state", "s", "--control", "c"], ["--lief", "1"]):
        done = subprocess.run([sys.executable, "-P", "-m", "tmax_workers", *options], capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 64
        assert done.stderr.startswith("error: ")
        assert "hint: " in done.stderr


def test_a_stray_module_in_the_working_directory_is_not_imported(bench: Bench, folder: Path):
    (folder / "queue.py").write_text("raise SystemExit('the wrong queue')\n")
    bench.start(cwd=folder)
    bench.greet()


def test_full_pipes_both_ways_do_not_deadlock(worker: Bench):
    """More results than a pipe holds, unread, while more tasks come in."""
    jobs = [run(task, call(bytes, 3000)) for task in range(1, 400)]
    for job in jobs:
        assert isinstance(job, Run)
    worker.say(*jobs)
    worker.done(399, timeout_s=20)
    assert sum(isinstance(one, Done) for one in worker.heard) == 399
