"""Every check before running: what is refused, with which words, and that nothing was imported or computed for it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tmax_pipes.jobs import KernelJob
from tmax_workers.kernels.catalog import plan
from tmax_workers.kinds.kernel import run
from tmax_workers.worker_errors import Refused, WorkerError

ROOT = Path(__file__).resolve().parents[3]


def refusal(**job: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        run(KernelJob(**job))
    return caught.value


@pytest.mark.parametrize(
    ("job", "message", "hint"),
    [
        ({"name": "nope"}, "unknown kernel 'nope'", "known kernels: eigvals, matmul, reduce"),
        ({"name": "matmul", "params": {}}, "matmul: missing m, k, n", "matmul takes n (square)"),
        ({"name": "matmul", "params": {"m": 3, "n": 4}}, "matmul: missing k", "matmul takes n (square)"),
        ({"name": "matmul", "params": {"batch": 3}}, "matmul: missing m, k, n", "matmul takes"),
        ({"name": "eigvals", "params": {"batch": 2}}, "eigvals: missing n", "eigvals takes n"),
        ({"name": "reduce"}, "reduce: missing n", "reduce takes n"),
        ({"name": "reduce", "params": {"n": 3, "batch": 2}}, "reduce: unknown parameter 'batch'", "reduce takes n"),
        ({"name": "matmul", "params": {"N": 3}}, "matmul: unknown parameter 'N'", "matmul takes"),
        ({"name": "eigvals", "params": {"m": 3, "n": 4}}, "eigvals: 3x4 is not square", "square matrices"),
        ({"name": "matmul", "params": {"n": 0}}, "matmul: n must be at least 1, not 0", "matmul takes"),
        ({"name": "matmul", "params": {"n": -5}}, "matmul: n must be at least 1, not -5", "matmul takes"),
        ({"name": "matmul", "params": {"n": 4, "batch": 0}}, "matmul: batch must be at least 1, not 0", "matmul takes"),
        ({"name": "matmul", "params": {"n": 2.0}}, "matmul: n must be a whole number, not 2.0", "matmul takes"),
        ({"name": "matmul", "params": {"n": "2"}}, "matmul: n must be a whole number, not '2'", "matmul takes"),
        ({"name": "matmul", "params": {"n": True}}, "matmul: n must be a whole number, not True", "matmul takes"),
        ({"name": "matmul", "params": {"n": 2}, "repeat": 0}, "matmul: repeat must be at least 1 and at most 1000000, not 0", ""),
        (
            {"name": "matmul", "params": {"n": 2}, "repeat": 10**7},
            "matmul: repeat must be at least 1 and at most 1000000, not 10000000",
            "",
        ),
        ({"name": "matmul", "params": {"n": 2}, "seed": -1}, "matmul: seed must be at least 0 and below 2**63, not -1", ""),
        ({"name": "matmul", "params": {"n": 2}, "dtype": "int8"}, "matmul: no int8 with numpy on cpu", "use --dtype float64, float32"),
        ({"name": "matmul", "params": {"n": 2}, "device": "tpu"}, "matmul: unknown device 'tpu'", "known devices: auto, cpu"),
        ({"name": "matmul", "params": {"n": 2}, "backend": "jax"}, "matmul: unknown backend 'jax'", "known backends: auto, numpy"),
        (
            {"name": "matmul", "params": {"n": 2}, "dtype": "float16", "backend": "numpy"},
            "matmul: no float16 with numpy on cpu",
            "use --dtype float64, float32",
        ),
        (
            {"name": "matmul", "params": {"n": 2}, "backend": "numpy", "device": "cuda"},
            "matmul: numpy runs on the cpu only, not on cuda",
            "--backend torch",
        ),
    ],
)
def test_refused_with_words_that_help(job: dict[str, Any], message: str, hint: str) -> None:
    refused = refusal(**job)
    assert refused.message == message
    assert hint in refused.hint


def test_eigenvalues_have_no_half_precision() -> None:
    assert refusal(name="eigvals", params={"n": 2}, dtype="float16").message == "eigvals: no float16 with torch on cpu"


@pytest.mark.parametrize("params", [{"n": 10**7}, {"n": 10**30}, {"n": 1000, "batch": 10**12}])
def test_what_cannot_fit_is_refused_before_anything_is_allocated(params: dict[str, int]) -> None:
    for name in ("matmul", "eigvals"):
        refused = refusal(name=name, params=params, device="cpu")
        assert f"{name}: needs " in refused.message and " free" in refused.message
        assert "smaller" in refused.hint


def test_memory_is_what_the_system_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    job = KernelJob(name="reduce", params={"n": 1000}, device="cpu")
    monkeypatch.setattr("tmax_workers.kernels.catalog.available_bytes", lambda _device: 8000)
    assert plan(job).needed_bytes == 8000
    monkeypatch.setattr("tmax_workers.kernels.catalog.available_bytes", lambda _device: 7999)
    with pytest.raises(Refused, match=r"reduce: needs 7.8 KiB, and cpu has 7.8 KiB free"):
        plan(job)


@pytest.mark.torch
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_torch_does_not_have(device: str) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    refused = refusal(name="matmul", params={"n": 2}, device=device)
    assert refused.message.startswith(f"device {device} is not available: torch {torch.__version__}")
    assert "--device cpu" in refused.hint


def in_fresh_python(code: str, **variables: str) -> str:
    path = ":".join(str(ROOT / part) for part in ("workers", "pipes"))
    env = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_torch_the_answer_says_how_to_install_it(tmp_path: Path) -> None:
    """A torch that cannot be loaded, found first on the path, stands for a broken one."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open shared object file')\n")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from tmax_pipes.jobs import KernelJob
from tmax_workers.worker_errors import Refused
from tmax_workers.kinds.kernel import run
for job in (KernelJob(name="matmul", params={{"n": 2}}, device="cuda"), KernelJob(name="matmul", params={{"n": 2}}, backend="torch")):
    try:
        run(job)
    except Refused as refused:
        print(refused.message, "|", refused.hint)
"""
    lines = in_fresh_python(code).splitlines()
    assert lines[0].startswith("device cuda needs torch, which is installed but cannot be loaded: libcudart.so")
    assert lines[1].startswith("backend torch needs torch, which is installed but cannot be loaded: libcudart.so")
    assert all("tmax[torch]" in line for line in lines)


def test_with_no_torch_at_all() -> None:
    """Only NumPy can be found: named devices are refused, auto goes on."""
    code = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else found(name, package)
from tmax_pipes.jobs import KernelJob
from tmax_workers.worker_errors import Refused
from tmax_workers.kinds.kernel import run
try:
    run(KernelJob(name="matmul", params={"n": 2}, device="cuda"))
except Refused as refused:
    print(refused.message, "|", refused.hint)
print(run(KernelJob(name="matmul", params={"n": 2}))[0]["backend"])
"""
    lines = in_fresh_python(code).splitlines()
    assert lines[0].startswith("device cuda needs torch, which is not installed | install it with: pip install 'tmax[torch]'")
    assert lines[-1] == "numpy"


def test_auto_does_not_import_torch_on_a_machine_without_gpu() -> None:
    code = """
import os, sys
from tmax_workers import device
device.GPU_SIGNS = ()
from tmax_pipes.jobs import KernelJob
from tmax_workers.kinds.kernel import run
for name in ("matmul", "eigvals", "reduce"):
    assert run(KernelJob(name=name, params={"n": 5}))[0]["backend"] == "numpy"
assert "torch" not in sys.modules
"""
    assert "this machine shows no GPU" in in_fresh_python(code)


@pytest.mark.torch
def test_auto_takes_loaded_torch_where_it_was_measured_faster() -> None:
    pytest.importorskip("torch")
    for name, expected in (("matmul", "numpy"), ("eigvals", "torch"), ("reduce", "torch")):
        checked = plan(KernelJob(name=name, params={"n": 5}, device="cpu"))
        assert checked.backend.name == expected


def test_a_refusal_can_be_pickled_whole() -> None:
    refused = pickle.loads(pickle.dumps(Refused("what", "do this")))
    assert isinstance(refused, WorkerError)
    assert (refused.message, refused.hint, str(refused)) == ("what", "do this", "what")
