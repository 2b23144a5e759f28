"""The comparison of a GPU with the CPU: it runs without one too, and what differs makes it fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.test_scripts import script
from tmax_workers.kernels.catalog import KERNELS
from tmax_workers.zygote_load import gpus_in, opened_gpu


@pytest.mark.torch
def test_without_a_gpu_it_says_so_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    check = script("check_gpu")
    assert check.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"check_gpu: skipped: torch {torch.__version__} finds no GPU (--cpu compares the libraries on the CPU)"
    ]
    assert check.main(["--gpu"]) == 2


@pytest.mark.torch
def test_on_the_cpu_it_compares_every_kernel_and_type(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    check = script("check_gpu")
    assert check.SIZES.keys() == KERNELS.keys()
    monkeypatch.setattr(check, "SIZES", {"matmul": [{"n": 30}], "eigvals": [{"n": 9, "batch": 2}], "reduce": [{"n": 1001}]})
    monkeypatch.setattr(check, "SAMPLE", [check.KernelRun(name="matmul", n=20, backend="torch", repeat=1, dtype="float32")])
    monkeypatch.setattr(check, "LARGE", 16)
    assert check.main(["--cpu"]) == 0
    out = capsys.readouterr().out
    # matmul and reduce: two types with two libraries, two half ones with torch; eigvals: two types with two libraries.
    assert sum(line.startswith(tuple(KERNELS)) for line in out.splitlines()) == 6 + 4 + 6 + 1
    assert "check_gpu: 0 wrong" in out


def test_other_inputs_and_a_distant_checksum_are_wrong() -> None:
    check = script("check_gpu")
    reference = check.Outcome(digests=("a", "b"), checksum=1.0, draw_s=0.1, run_s=0.1, peak="-")
    kernel = KERNELS["matmul"]
    for other, wrong in (
        (reference, 0),
        (reference._replace(digests=("a", "c")), 1),
        (reference._replace(checksum=1.0001), 1),
        (reference._replace(checksum=float("nan")), 1),
        (reference._replace(digests=(), checksum=float("inf")), 2),
    ):
        found = check.Findings()
        check.cells(found, "here", kernel, "float32", other, reference)
        assert len(found.wrong) == wrong


def test_a_gpu_that_an_import_opened_is_seen(tmp_path: Path) -> None:
    """Links as in /proc/self/fd; a child forked afterwards could not use the device."""
    for number, target in enumerate(("/dev/null", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia0", "pipe:[7]")):
        (tmp_path / str(number)).symlink_to(target)
    (tmp_path / "9").write_text("no link")
    assert gpus_in(str(tmp_path)) == ["/dev/nvidia0", "/dev/nvidiactl"]
    if not [name for name in os.listdir("/dev") if name.startswith("nvidia")]:
        assert opened_gpu("torch") == ""
