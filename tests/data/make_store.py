"""Write ``store-version-1.db``, a store of the first released layout; run once, never again for the same version.

    PYTHONPATH=.:pipes python tests/data/make_store.py

The file is then yesterday's: tests read it with today's code and compare with what stands here.
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
from pathlib import Path

from tmax.core.events import Changes
from tmax.core.model import Crash, Lease, LifeRecord, Outcome, Task, TaskState
from tmax.core.settings import StoreSettings
from tmax.layout import Layout
from tmax.storage.store import Store
from tmax_pipes.jobs import Blob, KernelJob, PythonJob, ShellJob
from tmax_pipes.messages import Failure, Report


def tasks_of_yesterday() -> list[Task]:
    """One task of each kind, and of each thing a task can carry."""
    kernel = KernelJob(name="matmul", params={"n": 512, "alpha": 0.5, "t": True, "mode": "x"}, dtype="float32", repeat=3, seed=7)
    call = PythonJob(call=b"\x80\x05", label="shop.total", cwd=b"/srv", path=("/srv",), env={b"A": b"\xff"}, python="3.11")
    shell = ShellJob(argv=(b"sh", b"-c", b"echo \xff"), cwd=b"/tmp", env={b"PATH": b"/bin"}, split=True)
    crash = Crash(at=1700000100.5, life=2, worker="w2", cause="killed by SIGKILL", signal=9, peak_rss_bytes=1 << 33)
    failure = Failure(kind="exit", message="exited with 3", exit_code=3, hint="see the log", error=Blob("ef" * 32, 80_000))
    report = Report(
        started_at=1700000050.0, duration_s=1.25, cpu_s=2.5, peak_rss_bytes=1 << 20, output_bytes=6, tail=b"hello\n", device="cpu"
    )
    return [
        Task(id=1, job=kernel, kind="kernel", submitted_at=1700000000.0, priority="high", request_id="r-1"),
        Task(id=2, job=call, kind="python", submitted_at=1700000001.0, name="naïve ☂", state=TaskState.RUNNING, attempt=2, crashes=(crash,), solo=True,
             lease=Lease(life=3, worker="w3", sent_at=1700000200.0, started_at=1700000201.0, group=4242), ran_on="w2"),
        Task(id=3, job=shell, kind="shell", submitted_at=1700000002.0, delivery="at-most-once", timeout_s=5.0, retries=2, deliveries=1, grace_s=0.5,
             state=TaskState.FAILED, attempt=1, failures=1, ended_at=1700000300.0, outcome=Outcome(report=report, failure=failure), ran_on="w1"),
        Task(id=4, job=PythonJob(call=Blob("ab" * 32, 70_000), label="big"), kind="python", submitted_at=1700000003.0, state=TaskState.DONE, attempt=1,
             ended_at=1700000301.0, outcome=Outcome(report=report, result=Blob("cd" * 32, 90_000), form="pickle"), ran_on="w1"),
        Task(id=5, job=PythonJob(call=b"[[1],{}]", label="m:f", target="m:f"), kind="python", submitted_at=1700000004.0, state=TaskState.WAITING,
             cancelling=True, failures=1, attempt=1),
    ]  # fmt: skip


def life_of_yesterday() -> LifeRecord:
    """A worker that was alive when the store was closed."""
    return LifeRecord(life=3, worker="w3", pid=4141, ticks=99887766, session="w3", started_at=1699999999.0, tasks_done=12)


def main() -> None:
    """Make the store in a folder of its own, close it, keep the file."""
    folder = tempfile.mkdtemp()
    store = Store.open(Layout("yesterday", f"{folder}/state", f"{folder}/run"), StoreSettings(ballast_bytes=0))
    box: queue.SimpleQueue[object] = queue.SimpleQueue()
    store.commit(Changes(new_tasks=tuple(tasks_of_yesterday()), lives=(life_of_yesterday(),), meta={"epoch": "3", "held": "yes"}), box.put)
    print(box.get())
    store.close()
    shutil.copyfile(f"{folder}/state/tmax.db", Path(__file__).parent / "store-version-1.db")
    os.chmod(Path(__file__).parent / "store-version-1.db", 0o644)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
