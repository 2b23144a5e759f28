"""What one task does to its process never reaches the next one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pytest
from msgspec.structs import replace

from tests.integration.workers.harness import Bench, call, run
from tests.integration.workers.test_python_jobs import value_of
from tests.wait import wait_until
from tmax_pipes.messages import Recalled, Started

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def look() -> dict[str, object]:
    """In the worker: everything a task of these tests changes."""
    import decimal
    import faulthandler
    import gc
    import json
    import locale
    import logging
    import resource
    import socket
    import tempfile
    import time
    import warnings

    found: dict[str, object] = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")}
    found |= {name: repr(getattr(sys, name, "gone")) for name in ("argv", "path", "excepthook", "unraisablehook", "stdin", "meta_path")}
    found |= {"recursion": sys.getrecursionlimit(), "switch": sys.getswitchinterval(), "digits": sys.get_int_max_str_digits()}
    found |= {"trace": repr(sys.gettrace()), "profile": repr(sys.getprofile()), "gc": (gc.isenabled(), gc.get_threshold())}
    found |= {"nice": os.getpriority(0, 0), "affinity": os.sched_getaffinity(0), "locale": locale.setlocale(locale.LC_ALL)}
    found |= {"zone": time.tzname, "umask": os.umask(0o77), "filters": repr(warnings.filters), "decimal": decimal.getcontext().prec}
    found |= {"disable": logging.root.manager.disable, "handlers": repr(logging.root.handlers), "level": logging.root.level}
    found |= {"timeout": socket.getdefaulttimeout(), "tempdir": tempfile.tempdir, "thread hook": repr(threading.excepthook)}
    found |= {"timers": [signal.getitimer(number) for number in (0, 1, 2)], "handler": repr(signal.getsignal(signal.SIGUSR2))}
    found |= {name: repr(getattr(sys, name, "gone")) for name in ("tracebacklimit", "breakpointhook", "__stdout__", "dont_write_bytecode")}
    found |= {"faults": faulthandler.is_enabled(), "abort": repr(signal.getsignal(signal.SIGABRT))}
    found |= {"threshold": gc.get_threshold(), "debug": gc.get_debug(), "rounding": decimal.DefaultContext.rounding}
    found |= {
        "filters of root": len(logging.root.filters),
        "logger": repr(logging.getLoggerClass()),
        "format": warnings.formatwarning("", UserWarning, "", 1),
    }
    found |= {"time": time.time() > 1, "json": json.dumps([1]), "open": repr(open), "cwd": os.getcwd(), "pid": os.getpid() > 1}
    return found


def seldom() -> None:
    import decimal
    import faulthandler
    import gc
    import logging
    import warnings

    class Logger(logging.Logger):
        pass

    sys.tracebacklimit, sys.breakpointhook, sys.__stdout__, sys.dont_write_bytecode = 0, print, None, not sys.dont_write_bytecode  # type: ignore[misc,assignment]
    gc.set_threshold(50_000, 5, 5)
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    faulthandler.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    decimal.DefaultContext.rounding = decimal.ROUND_UP
    logging.root.addFilter(lambda _record: False)
    logging.setLoggerClass(Logger)
    logging.captureWarnings(True)
    warnings.formatwarning = lambda *_given: ""  # type: ignore[assignment]


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def logs() -> None:
    import logging

    logging.basicConfig(level=logging.DEBUG)
    logging.disable(logging.CRITICAL)


def limits() -> None:
    import resource

    for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE, resource.RLIMIT_STACK):
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (1 << 40 if number == resource.RLIMIT_AS else 64, hard))


def numbers() -> None:
    import decimal

    decimal.getcontext().prec = 5
    decimal.DefaultContext.prec = 6


def places() -> None:
    import locale
    import time

    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    locale.setlocale(locale.LC_ALL, "C")
    os.umask(0o22)


def interpreter() -> None:
    import gc
    import warnings

    sys.setrecursionlimit(5000)
    sys.setswitchinterval(1)
    sys.set_int_max_str_digits(0)
    sys.argv[:] = ["other", "words"]
    sys.path.insert(0, "/somewhere")
    sys.excepthook = sys.unraisablehook = threading.excepthook = print  # type: ignore[assignment]
    sys.setprofile(lambda *_: None)
    gc.disable()
    warnings.simplefilter("error")


def timers() -> None:
    import faulthandler

    for number in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(number, 0.1)
    faulthandler.dump_traceback_later(0.1, exit=True)
    signal.signal(signal.SIGUSR2, print)


def modules() -> None:
    import json
    import socket
    import tempfile
    import time

    socket.setdefaulttimeout(3)
    tempfile.tempdir = "/nowhere"
    time.time = time.monotonic = lambda: 0.0
    os.getpid = lambda: 1
    os.write = os.read = lambda *_: 0  # type: ignore[assignment]
    json.dumps = lambda *_, **__: "patched"

    import builtins

    builtins.open = None  # type: ignore[assignment]
    builtins.leftover = 1  # type: ignore[attr-defined]


def deleted() -> None:
    del sys.argv
    del sys.excepthook
    sys.stdin.close()


@pytest.mark.parametrize("mess", [logs, limits, numbers, places, interpreter, timers, modules, deleted, seldom])
def test_what_a_task_changes_is_as_it_was_for_the_next_one(worker: Bench, mess: Callable[[], None]):
    began = time.time()
    worker.say(run(1, call(look)), run(2, call(mess)), run(3, call(wait, 0.3) if mess is timers else call(look)))
    worker.say(run(4, call(look)))
    before = value_of(worker, 1)
    assert abs(worker.done(2).report.started_at - began) < 30
    worker.done(3)
    after = value_of(worker, 4)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert {name: after[name] for name in before if name != "stdin"} == {name: before[name] for name in before if name != "stdin"}
    assert "closed" not in str(after["stdin"])
    assert not any(isinstance(one, Recalled) for one in worker.heard)


def test_a_limit_that_cannot_be_raised_again_replaces_the_worker(worker: Bench):
    def lower() -> None:
        import resource

        number = resource.RLIMIT_CORE
        resource.setrlimit(number, (0, 0))

    if os.geteuid() == 0:
        pytest.skip("root may raise it again")
    worker.say(run(1, call(lower)))
    worker.done(1)
    assert worker.wait(Recalled) == Recalled(0, 0, "stale")


def standard_input_closed() -> None:
    os.close(0)


def standard_input_opened_again() -> None:
    sys.stdin = os.fdopen(0)


def standard_input_redirected() -> None:
    os.dup2(os.open("/dev/zero", os.O_RDONLY), 0)


def other_user() -> None:
    os.setegid(65534)


@pytest.mark.parametrize("mess", [standard_input_closed, standard_input_opened_again, standard_input_redirected, other_user])
def test_what_cannot_be_put_back_replaces_the_worker(worker: Bench, mess: Callable[[], None]):
    if mess is other_user and os.geteuid():
        pytest.skip("only root may become somebody else")
    worker.say(run(1, call(mess)), run(2, call(int)))
    worker.done(1)
    assert worker.wait(Recalled, lambda one: one.task == 2).why == "stale"


def test_warnings_are_captured_again_after_a_task_that_did_so(worker: Bench):
    def capture() -> bool:
        import logging
        import warnings

        before = warnings.showwarning
        logging.captureWarnings(True)
        return warnings.showwarning is not before

    worker.say(run(1, call(capture)), run(2, call(capture)))
    assert value_of(worker, 1) is True
    assert value_of(worker, 2) is True


def test_numpys_errors_and_the_context_are_the_tasks_own(worker: Bench):
    def change() -> None:
        import numpy as np

        np.seterr(all="raise")
        np.set_printoptions(precision=2)

    def seen() -> list[object]:
        import numpy as np

        return [np.geterr()["divide"], np.get_printoptions()["precision"], repr(np.array([1 / 3]))]

    worker.say(run(1, call(change)), run(2, call(seen)), run(3, call(change)), run(4, call(seen)))
    assert value_of(worker, 2) == ["warn", 8, "array([0.33333333])"]
    assert value_of(worker, 4) == ["warn", 8, "array([0.33333333])"]


# -- what goes on after its task -------------------------------------------------------------------


def test_a_thread_left_running_costs_the_worker_and_prints_into_no_other_task(worker: Bench):
    def leave() -> None:
        def later() -> None:
            while True:
                threading.Event().wait(0.01)
                print("late")

        threading.Thread(target=later, daemon=True, name="chatty").start()

    worker.say(run(1, call(leave)), run(2, call(int)))
    worker.done(1)
    assert worker.wait(Recalled, lambda one: one.task == 2).why == "stale"
    worker.wait(Recalled, lambda one: one.task == 0)
    worker.wait_screen("chatty")
    kinds = [type(one).__name__ for one in worker.heard]
    assert kinds.index("Done") < len(kinds) - 1, "its result is reported first"
    assert worker.drain() == 0


def test_a_thread_that_is_about_to_end_costs_nothing(worker: Bench):
    def leave() -> None:
        threading.Thread(target=threading.Event().wait, args=(0.005,)).start()

    worker.say(run(1, call(leave)), run(2, call(int)))
    worker.done(2)
    assert not any(isinstance(one, Recalled) for one in worker.heard)


def popen() -> list[int]:
    import subprocess

    return [subprocess.Popen(["sleep", "300"]).pid]


def forked() -> list[int]:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return [pid]


def daemon() -> list[int]:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(write, str(os.getpid()).encode())
        signal.pause()
    os.waitpid(pid, 0)
    return [int(os.read(read, 20))]


def pool() -> list[int]:
    import multiprocessing

    sys.pool = multiprocessing.get_context("fork").Pool(2)  # type: ignore[attr-defined]
    return [one.pid for one in sys.pool._pool]  # type: ignore[attr-defined]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("leave", [popen, forked, daemon, pool])
def test_processes_left_running_end_with_their_task_and_cost_the_worker(worker: Bench, leave: Callable[[], list[int]]):
    worker.say(run(1, call(leave)), run(2, call(int)))
    left = value_of(worker, 1)
    assert isinstance(left, list)
    assert left
    assert all(map(gone, left)), "they ended before the result was reported"
    assert not any(file.read_text() for file in Path(f"/proc/{worker.pid}/task").glob("*/children")), "and nobody starts new ones"
    assert worker.wait(Recalled, lambda one: one.task == 2).why == "stale"


def test_what_is_kept_in_the_background_stays_and_costs_nothing(worker: Bench):
    def leave() -> list[int]:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return popen() + daemon()

    worker.say(run(1, replace(call(leave), keep_background=True)), run(2, call(int)))
    left = value_of(worker, 1)
    assert isinstance(left, list)
    worker.done(2)
    try:
        assert not any(map(gone, left))
        assert not any(isinstance(one, Recalled) for one in worker.heard)
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def test_a_task_that_only_leaves_zombies_costs_nothing(worker: Bench):
    def leave() -> list[int]:
        import subprocess

        sys.held = subprocess.Popen(["true"])  # type: ignore[attr-defined]
        os.waitid(os.P_PID, sys.held.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined]
        return [sys.held.pid]  # type: ignore[attr-defined]

    worker.say(run(1, call(leave)), run(2, call(int)))
    left = value_of(worker, 1)
    worker.done(2)
    assert isinstance(left, list)
    wait_until(lambda: gone(left[0]))
    assert not any(isinstance(one, Recalled) for one in worker.heard)


def test_pythons_own_helper_costs_nothing(worker: Bench):
    def share() -> int:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
        return resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]

    worker.say(run(1, call(share)), run(2, call(share)))
    helper = value_of(worker, 1)
    assert isinstance(helper, int)
    assert value_of(worker, 2) == helper
    assert not any(isinstance(one, Recalled) for one in worker.heard)


def test_a_task_may_dump_on_the_signal_that_cancels_and_the_next_one_is_still_cancelled(worker: Bench):
    def register() -> None:
        import faulthandler

        faulthandler.register(signal.SIGUSR1)

    worker.say(run(1, call(register)), run(2, call(wait, 60.0), timeout_s=0.2))
    worker.done(1)
    worker.wait(Started, lambda one: one.task == 2)
    assert worker.failed(2).failure.kind == "timeout"


def test_what_a_module_does_at_its_import_stays(worker: Bench, folder: Path):
    (folder / "sets_up.py").write_text("import logging, decimal\nlogging.basicConfig()\ndecimal.getcontext().prec = 9\ndef f(): pass\n")

    def seen() -> list[object]:
        import decimal
        import logging

        found = [len(logging.root.handlers), decimal.getcontext().prec]
        decimal.getcontext().prec = 3
        return found

    from tests.integration.workers.test_python_jobs import target

    worker.say(run(1, target("sets_up:f", path=folder)), run(2, call(seen)), run(3, call(seen)))
    worker.done(1)
    assert value_of(worker, 2) == [1, 9]
    assert value_of(worker, 3) == [1, 9]


def may_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> 24 & 1)  # CAP_SYS_RESOURCE


def soft_core() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)[0]


@pytest.mark.skipif(may_raise_limits(), reason="a hard limit can be put back here")
def test_a_limit_that_a_module_sets_at_its_import_stays(worker: Bench, folder: Path):
    before = "import resource\nhard = resource.getrlimit(resource.RLIMIT_CORE)[1]\nresource.setrlimit(resource.RLIMIT_CORE, "
    (folder / "soft_limit.py").write_text(f"{before}(4096, hard))\ndef f(): resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n")
    (folder / "hard_limit.py").write_text(f"{before}(0, 0))\ndef f(): pass\n")

    from tests.integration.workers.test_python_jobs import target

    worker.say(run(1, target("soft_limit:f", path=folder)), run(2, call(soft_core)))
    worker.done(1)
    assert value_of(worker, 2) == 4096
    assert not any(isinstance(one, Recalled) for one in worker.heard)
    worker.say(run(3, target("hard_limit:f", path=folder)), run(4, call(soft_core)))
    worker.done(3)
    assert worker.wait(Recalled, lambda one: one.task == 4).why == "stale"
