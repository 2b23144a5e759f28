"""The three kernels compute what NumPy says they should, and tell their cost truthfully."""

from __future__ import annotations

import json
import statistics
from typing import Any

import numpy as np
import pytest

from tmax_pipes.jobs import KernelJob
from tmax_workers.device import choose
from tmax_workers.kernels.backends import ITEM_BYTES, make, numpy_draw
from tmax_workers.kernels.catalog import KERNELS, plan, readable
from tmax_workers.kernels.tolerance import within
from tmax_workers.kinds.kernel import measure, out_of_memory, run

BACKENDS = ["numpy", pytest.param("torch", marks=pytest.mark.torch)]


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "torch":
        pytest.importorskip("torch")
    return make(request.param, choose("cpu"))


def reference(job: KernelJob) -> float:
    """The checksum worked out by NumPy in float64, from the numbers the kernel is given."""
    kernel = KERNELS[job.name]
    sizes = kernel.complete({name: int(value) for name, value in job.params.items()})
    inputs = [
        a.astype(np.float64)
        for a in numpy_draw(kernel.shapes(sizes), "float64" if job.dtype == "float64" else "float32", job.seed, kernel.low)
    ]
    if job.name == "matmul":
        return float(np.abs(inputs[0] @ inputs[1]).sum())
    return float(np.abs(np.linalg.eigvals(inputs[0])).sum()) if job.name == "eigvals" else float(inputs[0].sum())


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("matmul", {"n": 64}),
        ("matmul", {"m": 3, "k": 50, "n": 7}),
        ("matmul", {"m": 3, "k": 50, "n": 7, "batch": 4}),
        ("eigvals", {"n": 40}),
        ("eigvals", {"n": 40, "m": 40, "batch": 3}),
        ("reduce", {"n": 100_003}),
        ("matmul", {"n": 1}),
        ("eigvals", {"n": 1}),
        ("reduce", {"n": 1}),
    ],
)
def test_checksum_is_that_of_numpy_in_float64(backend: Any, dtype: str, name: str, params: dict[str, int]) -> None:
    job = KernelJob(name=name, params=params, dtype=dtype, backend=backend.name, device="cpu", seed=7)
    figures, device, _ = run(job)
    assert device == "cpu" and figures["backend"] == backend.name
    assert figures["checksum"] == pytest.approx(reference(job), rel=within(name, dtype))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("name", "params"), [("matmul", {"n": 64}), ("reduce", {"n": 200_000})])
def test_half_precision_is_close_and_does_not_overflow(dtype: str, name: str, params: dict[str, int]) -> None:
    pytest.importorskip("torch")
    job = KernelJob(name=name, params=params, dtype=dtype, device="cpu")
    figures, _, _ = run(job)
    assert figures["backend"] == "torch"
    assert figures["checksum"] == pytest.approx(reference(job), rel=2e-2)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_single_operations_against_numpy(backend: Any) -> None:
    [a, b] = backend.draw([(2, 5, 6), (2, 6, 3)], "float64", 3, -0.5)
    assert np.allclose(np.asarray(backend.matmul(a, b)), np.asarray(a) @ np.asarray(b))
    [square] = backend.draw([(2, 9, 9)], "float64", 3, -0.5)
    ours = np.sort_complex(np.asarray(backend.eigvals(square)))
    assert np.allclose(ours, np.sort_complex(np.linalg.eigvals(np.asarray(square))))
    assert ours.sum() == pytest.approx(np.trace(np.asarray(square), axis1=1, axis2=2).sum())
    assert backend.magnitude(a) == pytest.approx(np.abs(np.asarray(a)).sum())
    assert backend.threads() >= 1
    backend.synchronize()


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inputs_follow_the_seed_and_stay_in_range(backend: Any, dtype: str) -> None:
    first, again, other = (np.asarray(backend.draw([(1000,)], dtype, seed, -0.5)[0]) for seed in (1, 1, 2))
    assert str(first.dtype) == dtype
    assert (first == again).all() and (first != other).any()
    assert first.min() >= -0.5 and first.max() < 0.5 and abs(first.mean()) < 0.1


@pytest.mark.parametrize(
    ("name", "params", "unit", "work"),
    [
        ("matmul", {"n": 100}, "flops", 2 * 100**3),
        ("matmul", {"m": 2, "k": 3, "n": 5, "batch": 7}, "flops", 2 * 2 * 3 * 5 * 7),
        ("eigvals", {"n": 10, "batch": 8}, "flops", 10 * 10**3 * 8),
        ("reduce", {"n": 1000}, "bytes", 4000),
    ],
)
def test_work_and_rate_are_those_of_the_recorded_seconds(name: str, params: dict[str, int], unit: str, work: int) -> None:
    figures, _, strategy = run(KernelJob(name=name, params=params, dtype="float32", backend="numpy", repeat=4))
    assert figures[unit] == work
    assert len(figures["seconds"]) == 4 and min(figures["seconds"]) > 0
    assert figures["best_s"] == min(figures["seconds"])
    assert figures["median_s"] == statistics.median(figures["seconds"])
    rate = figures["gflops" if unit == "flops" else "gb_per_s"]
    assert rate == pytest.approx(work / figures["median_s"] / 1e9)
    assert strategy.startswith("numpy, ")


def test_figures_travel_as_json_and_are_complete() -> None:
    figures, _, _ = run(KernelJob(name="matmul", params={"m": 2, "k": 3, "n": 4}, repeat=2, seed=5))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["shape"] == [[2, 3], [3, 4]]
    assert figures["sizes"] == {"m": 2, "k": 3, "n": 4, "batch": 1}
    named = {
        "kernel",
        "backend",
        "device",
        "device_name",
        "dtype",
        "sizes",
        "shape",
        "repeat",
        "seed",
        "warmup_s",
        "seconds",
        "best_s",
        "median_s",
    }
    assert set(figures) == named | {"flops", "gflops", "checksum", "threads", "needed_bytes"}


def test_what_a_person_reads(capfd: pytest.CaptureFixture[str]) -> None:
    run(KernelJob(name="matmul", params={"n": 8}, backend="numpy", repeat=3))
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith("matmul 8x8 @ 8x8 float64, numpy, ") and "numpy runs there only" in first
    assert second.startswith("3 runs: median ") and "GFLOP/s; checksum " in second


def test_memory_estimate_covers_the_arrays_that_are_really_held() -> None:
    """The estimate is a promise made before allocation: inputs, result and checksum's copy must fit in it."""
    for name, params in (("matmul", {"m": 30, "k": 20, "n": 40, "batch": 2}), ("eigvals", {"n": 30, "batch": 4}), ("reduce", {"n": 5000})):
        checked = plan(KernelJob(name=name, params=params, backend="numpy"))
        inputs = checked.backend.draw(checked.kernel.shapes(checked.sizes), "float64", 0, 0.0)
        result = np.asarray(checked.kernel.run(checked.backend, inputs))
        held = sum(a.nbytes for a in inputs) + (0 if name == "reduce" else result.nbytes + np.abs(result).nbytes)
        assert held <= checked.needed_bytes <= 4 * held


def test_cancelling_between_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception a cancel raises in the main thread ends the job at the next return to Python."""

    class Cancelled(BaseException):
        pass

    checked = plan(KernelJob(name="reduce", params={"n": 10}, backend="numpy", repeat=1_000_000))
    calls: list[int] = []

    def synchronize() -> None:
        calls.append(1)
        if len(calls) == 20:
            raise Cancelled

    monkeypatch.setattr(checked.backend, "synchronize", synchronize)
    with pytest.raises(Cancelled):
        measure(checked)
    assert len(calls) == 20


def test_readable_sizes() -> None:
    assert [readable(n) for n in (0, 1023, 1024, 1536 * 1024**2, 1 << 70)] == ["0 B", "1023 B", "1.0 KiB", "1.5 GiB", "1.02e+03 EiB"]


@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_item_bytes_are_those_of_the_libraries(dtype: str) -> None:
    if dtype == "bfloat16":
        torch = pytest.importorskip("torch")
        assert torch.bfloat16.itemsize == ITEM_BYTES[dtype]
    else:
        assert np.dtype(dtype).itemsize == ITEM_BYTES[dtype]


@pytest.mark.torch
def test_torchs_two_ways_to_run_out_of_memory_are_known() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("something else"))
