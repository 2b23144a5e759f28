"""A worker that a task has used up is replaced, and nobody but its tasks' pids can tell."""

from __future__ import annotations

from tests.box import Box


def test_a_task_that_leaves_a_thread_costs_a_worker_and_no_other_task_anything(box: Box) -> None:
    (box.root / "leaves.py").write_text(
        "import os, threading\n"
        "def thread():\n    threading.Thread(target=threading.Event().wait, daemon=True).start()\n    return os.getpid()\n"
        "def pid():\n    return os.getpid()\n"
    )
    box.init(1)
    numbers = [int(box.tmax("submit", "-q", "--py", f"leaves:{name}", cwd=box.root).stdout) for name in ("pid", "thread", "pid", "pid")]
    for number in numbers:
        box.tmax("wait", str(number))
    pids = [box.tmax("result", str(number)).stdout.strip() for number in numbers]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert [box.task(number)["state"] for number in numbers] == ["done"] * 4
