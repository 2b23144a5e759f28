"""A kernel's inputs and precision do not depend on library, device or what ran before; how near two results must be is stated."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest

from tmax_pipes.jobs import KernelJob
from tmax_workers.device import Device, choose
from tmax_workers.kernels import catalog
from tmax_workers.kernels.backends import ITEM_BYTES, PIECE, draw_bytes, drawn_as, make, numpy_draw, pieces, stream
from tmax_workers.kernels.catalog import KERNELS, check_dtype, plan
from tmax_workers.kernels.tolerance import TOLERANCES, agree, difference, within
from tmax_workers.kinds.kernel import run
from tmax_workers.worker_errors import Refused

CPU = choose("cpu")
META = Device(kind="meta", name="no memory", note="")  # type: ignore[arg-type]
"""A device of torch's own that holds shapes and no numbers."""
SHAPES = [(3, 5), (2, 4, 4), (PIECE + 7,)]


def digests(arrays: list[Any]) -> list[str]:
    """Hashes of what is in memory: rounding counts, and so does the sign of a zero."""
    return [hashlib.sha256(a if isinstance(a, np.ndarray) else a.contiguous().view(-1).numpy(force=True)).hexdigest() for a in arrays]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_both_libraries_draw_the_same_bits(dtype: str, seed: int) -> None:
    pytest.importorskip("torch")
    ours, theirs = (digests(make(name, CPU).draw(SHAPES, dtype, seed, -0.5)) for name in ("numpy", "torch"))
    assert ours == theirs


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_the_float32_numbers_rounded_on_the_processor(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    wanted = [torch.from_numpy(a).to(getattr(torch, dtype)) for a in numpy_draw(SHAPES, "float32", 3, -0.5)]
    drawn = make("torch", CPU).draw(SHAPES, dtype, 3, -0.5)
    assert [str(a.dtype) for a in drawn] == [f"torch.{dtype}"] * 3
    assert all(torch.equal(a.view(torch.int16), b.view(torch.int16)) for a, b in zip(drawn, wanted, strict=True))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_what_is_copied_to_a_device_is_what_is_drawn_in_place(dtype: str) -> None:
    """The path to a GPU, with memory of the processor as its end."""
    torch = pytest.importorskip("torch")
    backend: Any = make("torch", CPU)
    generator = stream(3)
    copied = [backend._copied(generator, shape, dtype, -0.5) for shape in SHAPES]
    drawn = backend.draw(SHAPES, dtype, 3, -0.5)
    assert all(torch.equal(a, b) and a.shape == b.shape and a.dtype == b.dtype for a, b in zip(copied, drawn, strict=True))


@pytest.mark.torch
def test_another_device_has_no_generator_of_its_own() -> None:
    """A meta tensor takes no numbers: what is drawn for it still has the shapes and the type, and leaves the seed of torch alone."""
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    drawn = make("torch", META).draw(SHAPES, "float16", 3, -0.5)
    assert [tuple(a.shape) for a in drawn] == SHAPES and {a.device.type for a in drawn} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pieces_hold_what_one_whole_draw_would(dtype: str) -> None:
    """Odd, even and just around a piece; and the numbers of seed 0 stay what they are from one release to the next."""
    for count in (1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3):
        whole = np.random.Generator(np.random.PCG64(5)).random(count, dtype=getattr(np, dtype))
        assert (numpy_draw([(count,)], dtype, 5, 0.0)[0] == whole).all()
        assert (np.concatenate([piece.copy() for piece in pieces(stream(5), count, dtype, 0.0)]) == whole).all()
    first = numpy_draw([(2,)], dtype, 0, 0.0)[0]
    assert first == pytest.approx([0.6369616873214543, 0.2697867137638703] if dtype == "float64" else [0.8506242, 0.6369616], rel=1e-6)


def test_drawing_holds_one_piece_and_comes_back_between_two() -> None:
    """One buffer, used again: a large draw needs no second array, and a cancel takes effect after a few milliseconds."""
    seen = list(pieces(stream(0), 3 * PIECE, "float16", -0.5))
    assert [piece.size for piece in seen] == [PIECE] * 3 and seen[0].dtype == np.float32
    assert all(np.shares_memory(seen[0], piece) for piece in seen)


@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_host_memory_of_a_draw(dtype: str) -> None:
    rounded = ITEM_BYTES[dtype] if ITEM_BYTES[dtype] < 4 else 0
    a_number = ITEM_BYTES[drawn_as(dtype)] + rounded
    assert draw_bytes([(10, 10), (3, 3)], dtype, "cuda") == 100 * a_number
    assert draw_bytes([(10**6, 10**6)], dtype, "cuda") == PIECE * a_number
    assert draw_bytes([(10, 10)], dtype, "cpu") == (100 * a_number if rounded else 0)


@pytest.mark.parametrize("name, host", [("matmul", 16 * 8), ("eigvals", 16 * 8 + (2 * 16 + 64 * 4 + 3 * 4) * 8)])
def test_a_job_for_a_gpu_is_planned_on_the_host_too(name: str, host: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs pass through host memory, and the eigenvalues' library works there."""
    pytest.importorskip("torch")
    gpu = Device(kind="cuda", name="gpu", note="")
    monkeypatch.setattr(catalog, "choose", lambda asked: gpu)
    monkeypatch.setattr(catalog, "available_bytes", lambda device: 1 << 40 if device.kind == "cuda" else host)
    assert plan(KernelJob(name=name, params={"n": 4})).backend.device is gpu
    monkeypatch.setattr(catalog, "available_bytes", lambda device: 1 << 40 if device.kind == "cuda" else host - 1)
    with pytest.raises(Refused, match=f"{name}: needs .* and cpu has .* free"):
        plan(KernelJob(name=name, params={"n": 4}))


@pytest.mark.torch
@pytest.mark.parametrize("count", [1, PIECE, PIECE + 1])
def test_a_checksum_is_added_up_in_float64_in_pieces(count: int) -> None:
    torch = pytest.importorskip("torch")
    values = numpy_draw([(count,)], "float32", 1, -0.5)[0]
    exact = math.fsum(np.abs(values).tolist())
    assert make("numpy", CPU).magnitude(values) == pytest.approx(exact, rel=1e-12)
    assert make("torch", CPU).magnitude(torch.from_numpy(values)) == pytest.approx(exact, rel=1e-12)
    assert make("torch", CPU).magnitude(torch.full((70_000,), 60_000.0, dtype=torch.float16)) == pytest.approx(4.2e9, rel=1e-12)


# -- precision -------------------------------------------------------------------------------------


def precision(torch: Any) -> list[str]:
    """What is set now: the older setting, where it can be asked for, and the newer ones."""
    newer = [
        str(place.fp32_precision)
        for place in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
        if hasattr(place, "fp32_precision")
    ]
    try:
        return [torch.get_float32_matmul_precision(), *newer]
    except RuntimeError:
        return newer


@pytest.mark.torch
@pytest.mark.parametrize("way", ["highest", "high", "medium", "newer", "untouched"])
def test_float32_is_float32_whatever_ran_before_and_the_setting_stays(way: str) -> None:
    torch = pytest.importorskip("torch")
    if way == "newer" and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has the older setting alone")
    try:
        if way == "newer":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        elif way != "untouched":
            torch.set_float32_matmul_precision(way)
        before = precision(torch)
        with pytest.raises(KeyError), make("torch", CPU).full_precision():
            assert precision(torch) in (["highest", "ieee", "ieee"], ["highest"])
            raise KeyError
        assert precision(torch) == before
        run(KernelJob(name="matmul", params={"n": 4}, dtype="float32", backend="torch", device="cpu"))
        assert precision(torch) == before
    finally:
        torch.set_float32_matmul_precision("highest")


# -- the stated tolerances -------------------------------------------------------------------------


def types_of(name: str) -> set[str]:
    """The types of number that some library and device takes for this kernel."""
    taken = set()
    for dtype in ITEM_BYTES:
        try:
            check_dtype(KERNELS[name], dtype, "torch", CPU)
        except Refused:
            continue
        taken.add(dtype)
    return taken


def test_every_kernel_and_type_has_a_tolerance_and_a_reason() -> None:
    assert TOLERANCES.keys() == KERNELS.keys()
    for name, tolerance in TOLERANCES.items():
        assert tolerance.within.keys() == types_of(name)
        assert tolerance.reason
        # Wider for fewer digits.
        ordered = [tolerance.within[dtype] for dtype in ITEM_BYTES if dtype in tolerance.within]
        assert ordered == sorted(ordered) and 0 < ordered[0] <= 1e-8 and ordered[-1] <= 1e-2


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_both_libraries_agree_within_it_with_room(name: str, dtype: str) -> None:
    pytest.importorskip("torch")
    for n in (1, 33, 200):
        job = {"name": name, "params": {"n": n}, "dtype": dtype, "device": "cpu", "seed": n}
        ours, theirs = (run(KernelJob(**job, backend=backend))[0]["checksum"] for backend in ("numpy", "torch"))  # type: ignore[arg-type]
        assert difference(ours, theirs) <= within(name, dtype) / 10


def test_agreeing() -> None:
    assert agree("matmul", "float64", 1.0, 1.0 + 1e-12) and not agree("matmul", "float64", 1.0, 1.0 + 1e-8)
    assert agree("matmul", "float16", 1.0, 1.0005) and not agree("matmul", "float16", 1.0, 1.01)
    assert not agree("matmul", "float64", None, None) and not agree("matmul", "float64", math.nan, math.nan)
    assert difference(2.0, 1.0) == 0.5 and difference(0.0, 0.0) == 0.0 and difference(None, 1.0) == math.inf == difference(math.nan, 1.0)
    with pytest.raises(KeyError):
        within("eigvals", "float16")
