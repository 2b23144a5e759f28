"""Lives of swarms made and used from Python: how they begin, what they survive, and that they end without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until

Script = Callable[..., subprocess.Popen[str]]


def said(running: subprocess.Popen[str], *, code: int = 0) -> str:
    """Return what a script printed; its exit code must be ``code``."""
    out, err = running.communicate(timeout=60)
    assert running.returncode == code, f"{running.returncode}\n{out}\n{err}"
    return out


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def traces(box: Box) -> list[Path]:
    """Return what temporary swarms have left."""
    return [path for folder in ("state", "run") for path in (box.root / folder / "tmax").glob("tmp-*")]


def all_gone(box: Box) -> None:
    wait_until(
        lambda: not box.processes() and not traces(box), timeout_s=15, story=lambda: f"{box.processes()} {traces(box)}\n{box.story()}"
    )


def close(running: subprocess.Popen[str]) -> None:
    for pipe in (running.stdout, running.stderr):
        if pipe is not None:
            pipe.close()


def test_functions_of_a_script_work_and_nothing_is_left(box: Box, script: Script) -> None:
    running = script("""
        from tmax import Executor, Swarm
        FACTOR = 3
        class Point:
            def __init__(self, x): self.x = x
        def times(x): return FACTOR * x
        def move(point): return Point(point.x + 1)
        if __name__ == "__main__":
            with Swarm(workers=2) as s:
                print(s.submit(times, 14).result(), list(s.map(times, range(4))), s.submit(move, Point(1)).result().x)
                print([worker.name for worker in s.workers()])
            try:
                s.submit(times, 1)
            except RuntimeError as error:
                print(error)
            with Executor(max_workers=1) as s:
                print(list(s.map(times, range(6), chunksize=4)))
    """)
    assert said(running).splitlines() == [
        "42 [0, 3, 6, 9] 2",
        "['w1', 'w2']",
        "cannot schedule new futures after shutdown",
        "[0, 3, 6, 9, 12, 15]",
    ]
    all_gone(box)


def test_a_temporary_swarm_ends_with_its_killed_client(box: Box, script: Script) -> None:
    running = script("""
        import time
        from tmax import Swarm
        s = Swarm(workers=2)
        future = s.shell(["sleep", "600"])
        while future.task_id is None: pass
        print(s.name, flush=True)
        future.result()
    """)
    assert line(running).startswith("tmp-")
    assert len(box.processes()) > 3
    running.kill()
    running.wait()
    close(running)
    all_gone(box)


def test_ctrl_c_ends_it_at_once_and_cleanly(box: Box, script: Script) -> None:
    running = script("""
        from tmax import Swarm
        with Swarm(workers=1) as s:
            future = s.shell(["sleep", "600"])
            while future.task_id is None: pass
            print("runs", flush=True)
            future.result()
    """)
    assert line(running) == "runs"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode in {-signal.SIGINT, 130}, (out, err)
    assert err.strip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in err
    all_gone(box)


def test_without_with_the_exit_waits_for_what_is_under_way(box: Box, script: Script) -> None:
    running = script("""
        from tmax import Swarm
        s = Swarm(workers=2)
        futures = [s.submit(lambda x=x: x) for x in range(50)]
        futures[-1].add_done_callback(lambda future: print("done", future.result(), flush=True))
        s.shutdown(wait=False)
        try:
            s.shell(["true"])
        except RuntimeError as error:
            print("refused", flush=True)
    """)
    assert sorted(said(running).splitlines()) == ["done 49", "refused"]
    all_gone(box)


def test_shutdown_with_cancel_keeps_what_runs(box: Box, script: Script) -> None:
    running = script("""
        from pathlib import Path
        from tmax import Swarm
        with Swarm(workers=1) as s:
            first = s.shell(["sh", "-c", "touch runs; while ! test -e gate; do sleep 0.01; done"])
            while not Path("runs").exists(): pass
            others = [s.submit(abs, -x) for x in range(40)]
            s.shutdown(wait=False, cancel_futures=True)
            Path("gate").touch()
            s.shutdown()
            print(first.result().exit_code, {future.cancelled() for future in others})
    """)
    assert said(running).strip() == "0 {True}"
    all_gone(box)


def test_shutdown_with_cancel_lets_what_idle_workers_were_given_run(box: Box, script: Script) -> None:
    running = script("""
        import time
        from tmax import Executor
        ran = []
        for _ in range(5):
            with Executor(max_workers=2) as pool:
                futures = [pool.submit(time.sleep, 0.05) for _ in range(40)]
                pool.shutdown(cancel_futures=True)
            ran.append(sum(not future.cancelled() for future in futures))
            assert all(future.exception() is None for future in futures if not future.cancelled())
        print(all(0 < number < 20 for number in ran), ran)
    """)
    assert said(running).startswith("True")
    all_gone(box)


def test_a_killed_controller_is_replaced_and_nothing_is_lost(box: Box, script: Script) -> None:
    running = script("""
        import os, signal
        from tmax import Swarm
        def work(x):
            return x
        with Swarm(workers=2) as s:
            futures = []
            for kill in range(3):
                futures += [s.submit(work, len(futures) + x) for x in range(400)]
                os.kill(s.status().controller_pid, signal.SIGKILL)
            assert [future.result(40) for future in futures] == list(range(1200))
            ids = [future.task_id for future in futures]
            print(len(set(ids)), s.status().epoch)
    """)
    assert said(running).split() == ["1200", "4"]
    all_gone(box)


def test_a_controller_killed_last_of_all_leaves_nothing(box: Box, script: Script) -> None:
    running = script("""
        import os, signal
        from tmax import Swarm
        with Swarm(workers=1) as s:
            s.submit(abs, 1).result()
            os.kill(s.status().controller_pid, signal.SIGKILL)
    """)
    said(running)
    all_gone(box)


def test_forked_children_neither_use_nor_end_the_swarm(box: Box, script: Script) -> None:
    running = script("""
        import os, sys, warnings
        from tmax import Swarm
        warnings.simplefilter("ignore", DeprecationWarning)
        with Swarm(workers=1) as s:
            before = s.submit(abs, -1)
            before.result()
            child = os.fork()
            if child == 0:
                try:
                    s.submit(abs, -2)
                except BaseException as error:
                    print(type(error).__name__, flush=True)
                sys.exit(0)  # runs the handlers of the exit, too
            os.waitpid(child, 0)
            print(s.submit(abs, -3).result(20))
    """)
    assert said(running).split() == ["SwarmGone", "3"]
    all_gone(box)


def test_a_forked_child_does_not_keep_a_killed_owners_swarm_alive(box: Box, script: Script) -> None:
    running = script("""
        import os, signal, warnings
        from tmax import Swarm
        warnings.simplefilter("ignore", DeprecationWarning)
        s = Swarm(workers=1)
        child = os.fork()
        if child == 0:
            for name in ("stdout", "stderr"): os.close({"stdout": 1, "stderr": 2}[name])
            signal.pause()
        print(child, flush=True)
        signal.pause()
    """)
    child = int(line(running))
    running.kill()
    running.wait()
    close(running)
    wait_until(lambda: set(box.processes()) == {child}, timeout_s=15, story=lambda: str(box.processes()))
    os.kill(child, signal.SIGKILL)
    all_gone(box)


def test_a_swarm_that_cannot_start_says_why_and_leaves_nothing(box: Box, script: Script) -> None:
    running = script("""
        from tmax import Swarm
        from tmax.errors import TmaxError
        try:
            Swarm(workers=1, preload=["no_such_module_at_all"])
            print("started")
        except TmaxError as error:
            print("TmaxError", error)
        import os
        os.environ["TMAX_SWARM__WORKERS"] = "many"
        try:
            Swarm()
        except TmaxError as error:
            print(error.code)
    """)
    told = said(running)
    # A module that cannot be preloaded is said aloud by the worker, and is no reason not to work.
    assert told.splitlines()[-1] == "config"
    all_gone(box)


def test_tasks_of_a_permanent_swarm_outlive_their_client(box: Box, script: Script) -> None:
    box.init(1)
    running = script("""
        import os
        from tmax import Swarm
        s = Swarm.connect()
        futures = [s.shell(["sh", "-c", "while ! test -e gate; do sleep 0.01; done"]), s.options(name="second").shell(["true"])]
        while futures[1].task_id is None: pass
        print(*[future.task_id for future in futures], flush=True)
        os._exit(0)
    """)
    first, second = said(running).split()
    (box.root / "gate").touch()
    box.tmax("wait", first, second)
    assert box.task(int(second))["state"] == "done"
    assert box.task(int(second))["name"] == "second"


def test_connect_starts_a_missing_controller_but_not_one_that_was_taken_down(box: Box, script: Script) -> None:
    box.init(1)
    code = """
        from tmax import Swarm
        from tmax.errors import NoSwarm
        try:
            with Swarm.connect() as s:
                print(s.submit(abs, -4).result(30), s.name)
        except NoSwarm as error:
            print(error)
    """
    assert said(script(code)).split() == ["4", "default"]
    box.kill_controller()
    assert said(script(code)).split() == ["4", "default"]
    box.tmax("down")
    assert "was taken down" in said(script(code))


def test_a_swarm_taken_down_under_its_client_fails_the_futures(box: Box, script: Script) -> None:
    box.init(1)
    running = script("""
        from tmax import Swarm
        from tmax.api.task_errors import SwarmGone
        s = Swarm.connect()
        import time
        futures = [s.submit(time.sleep, 600), s.submit(abs, -1)]
        while futures[1].task_id is None: pass
        print("waits", flush=True)
        for future in futures:
            try:
                future.result()
            except SwarmGone as error:
                print(error)
    """)
    assert line(running) == "waits"
    box.tmax("down", "--now")
    out, err = running.communicate(timeout=30)
    assert out.count("was taken down") == 2, (out, err)
    wait_until(lambda: not box.processes())


@pytest.mark.parametrize("times", [1, 3])
def test_several_clients_share_a_permanent_swarm(box: Box, script: Script, times: int) -> None:
    box.init(2)
    code = """
        from tmax import Swarm
        with Swarm.connect() as s:
            print(sum(s.map(abs, range(-200, 0))))
    """
    running = [script(code) for _ in range(times)]
    assert [said(one).strip() for one in running] == ["20100"] * times
