"""Threads for numeric libraries: how many, set how, and that the libraries really obey."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tmax_workers import cgroup, threads

ROOT = Path(__file__).resolve().parents[3]


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/gone\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("4:cpu,cpuacct:/x\n", {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 2.5),
        ("1:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, None),
        ("", {}, None),
    ],
)
def test_cpu_quota_is_the_tightest_limit_above_us(tmp_path: Path, own: str, files: dict[str, str], quota: float | None) -> None:
    mount = tree(tmp_path / "mount", files)
    listing = tree(tmp_path, {"own": own}) / "own"
    assert cgroup.cpu_quota(mount, listing) == quota


@pytest.mark.parametrize(
    ("own", "files", "room"),
    [
        ("0::/a\n", {"a/memory.max": "1000", "a/memory.current": "400", "a/memory.stat": "anon 1\ninactive_file 100\n"}, 700),
        ("0::/a\n", {"a/memory.max": "1000", "a/memory.current": "1200"}, 0),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "400"}, None),
        ("3:memory:/m\n", {"memory/m/memory.limit_in_bytes": "5000", "memory/m/memory.usage_in_bytes": "1000"}, 4000),
        ("3:memory:/m\n", {"memory/m/memory.limit_in_bytes": "9223372036854771712", "memory/m/memory.usage_in_bytes": "1000"}, None),
    ],
)
def test_memory_room(tmp_path: Path, own: str, files: dict[str, str], room: int | None) -> None:
    mount = tree(tmp_path / "mount", files)
    listing = tree(tmp_path, {"own": own}) / "own"
    assert cgroup.memory_available_bytes(mount, listing) == room


def test_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: None)
    assert [threads.default_threads(workers) for workers in (0, 1, 3, 4, 16, 100)] == [16, 16, 5, 4, 1, 1]
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: 6.9)
    assert [threads.default_threads(workers) for workers in (1, 4)] == [6, 1]
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: 0.5)
    assert threads.default_threads(1) == 1


def test_usable_cores_follow_the_real_affinity() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from tmax_workers import threads; print(threads.usable_cores())"
    assert fresh(code) == "1"


def test_environment() -> None:
    assert threads.env_for(3) == dict.fromkeys(threads.VARIABLES, "3")
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"} <= set(
        threads.VARIABLES
    )
    with pytest.raises(ValueError, match="at least 1"):
        threads.env_for(0)


def fresh(code: str, started_with: int = 0) -> str:
    """Output of a new interpreter, its libraries limited from the start when ``started_with`` is given."""
    env = {"PYTHONPATH": ":".join(str(ROOT / part) for part in ("workers", "pipes")), "PATH": "/usr/bin:/bin"}
    env |= threads.env_for(started_with) if started_with else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_enforce_imports_nothing_and_sets_the_environment() -> None:
    code = """
import os, sys
from tmax_workers import threads
assert threads.enforce(3) == {}
assert not {"numpy", "torch", "threadpoolctl"} & set(sys.modules)
print(os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"])
"""
    assert fresh(code) == "3 3"


BUSY_THREADS = """
def busy_threads(compute):
    \"\"\"How many threads of this process use the processor while it computes.\"\"\"
    def ticks():
        found = {}
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/stat") as file:
                found[thread] = int(file.read().rpartition(")")[2].split()[11])
        return found
    compute()
    before = ticks()
    for _ in range(100):
        compute()
        if sum(ticks().values()) - sum(before.values()) >= 60:
            break
    return sum(used - before.get(thread, 0) >= 10 for thread, used in ticks().items())
"""


@pytest.mark.parametrize(
    ("setup", "compute"),
    [
        ("import numpy as np; a = np.random.default_rng(0).random((1200, 1200))", "lambda: a @ a"),
        pytest.param("import torch; a = torch.rand(1200, 1200, dtype=torch.float64)", "lambda: a @ a", marks=pytest.mark.torch),
    ],
    ids=["numpy", "torch"],
)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_worker_forked_with_one_thread_is_raised_and_lowered_again(setup: str, compute: str) -> None:
    """The environment said 1 at import; enforce(2) gives two threads that really work, enforce(1) takes one away."""
    if "torch" in setup:
        pytest.importorskip("torch")
    code = f"""
import os
from tmax_workers import threads
{setup}
{BUSY_THREADS}
compute = {compute}
seen = [busy_threads(compute)]
for wanted in (2, 1):
    held = threads.enforce(wanted)
    assert held and set(held.values()) == {{wanted}}, held
    assert os.environ["OMP_NUM_THREADS"] == str(wanted)
    seen.append(busy_threads(compute))
print(*seen)
"""
    assert fresh(code, started_with=1) == "1 2 1"


@pytest.mark.torch
def test_enforce_reaches_every_library_that_is_loaded() -> None:
    pytest.importorskip("torch")
    code = "import torch, numpy\nfrom tmax_workers import threads\nprint(sorted(threads.enforce(2).items()))"
    held = dict(eval(fresh(code, started_with=1)))
    assert held["openblas"] == held["torch"] == 2 and set(held.values()) == {2}


@pytest.mark.torch
def test_torch_imported_under_the_limit_has_one_thread_until_it_is_raised() -> None:
    """What a zygote relies on before each fork."""
    pytest.importorskip("torch")
    code = """
import os, torch, numpy
from tmax_workers import threads
before = len(os.listdir("/proc/self/task"))
child = os.fork()
if child == 0:
    threads.enforce(2)
    a = numpy.ones((400, 400))
    ok = float((a @ a)[0, 0]) == 400.0 and float((torch.from_numpy(a) @ torch.from_numpy(a))[0, 0]) == 400.0
    os._exit(0 if ok else 1)
print(before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert fresh(code, started_with=1) == "1 0"
