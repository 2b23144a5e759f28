"""The sample job's functions: what they count is true, and the plain script's checks are those of the kernels."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from examples import plain
from examples.sample_job import KernelRun, Work, hash_command, hashes_check, tokens_check, work
from examples.stdlib_tokens import batches, count_tokens, source_files
from tmax_pipes.jobs import KernelJob
from tmax_workers.kinds import kernel

ROOT = Path(__file__).resolve().parents[2]


def test_sources_are_the_library_and_nothing_else() -> None:
    files = source_files()
    assert files == sorted(set(files)) and len(files) > 300
    assert json.__file__ in files
    assert not [name for name in files if "site-packages" in name or "/test/" in name]


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_batches_deal_every_file_once_and_evenly(tmp_path: Path, count: int) -> None:
    paths = []
    for number in range(20):
        path = tmp_path / f"{number:02}.py"
        path.write_text("x" * (number * 10))
        paths.append(str(path))
    dealt = batches(paths, count)
    assert sorted(path for batch in dealt for path in batch) == paths
    assert len(dealt) == min(count, 20)
    weights = [sum(Path(path).stat().st_size for path in batch) for batch in dealt]
    assert max(weights) - min(weights) <= 190


def test_batches_need_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        batches([], 0)


def test_tokens_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x = 1\nprint(x)\n")
    # ENCODING; x = 1 NEWLINE; print ( x ) NEWLINE; ENDMARKER
    assert count_tokens([str(path)]) == {"files": 1, "bytes": 15, "tokens": 11, "NAME": 3, "OP": 3, "NEWLINE": 2}
    path.write_text("x = (\n")
    with pytest.raises((tokenize.TokenError, SyntaxError)):
        count_tokens([str(path)])


def test_token_sums_do_not_depend_on_the_batches() -> None:
    files = source_files()[:30]
    whole = count_tokens(files)
    assert tokens_check(count_tokens(batch) for batch in batches(files, 4)) == whole


def test_hash_commands_print_what_hashlib_says(tmp_path: Path) -> None:
    paths = []
    for name in ("b", "-a"):
        (tmp_path / name).write_text(name)
        paths.append(str(tmp_path / name))
    output = subprocess.run(hash_command(paths), capture_output=True, text=True, check=True).stdout
    lines = sorted(f"{hashlib.sha256(Path(path).read_bytes()).hexdigest()}  {path}" for path in paths)
    assert hashes_check([output]) == {"files": 2, "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()}
    assert hashes_check([line + "\r\n" for line in reversed(lines)]) == hashes_check([output])


def test_the_work_covers_all_files_in_both_kinds() -> None:
    files = source_files()
    job = work(with_torch=False)
    assert sorted(path for batch in job.token_batches for path in batch) == files
    assert sorted(path for command in job.hash_commands for path in command[2:]) == files
    assert {run.backend for run in job.kernels} == {"numpy"}
    assert [run.n for run in work(with_torch=True).kernels] == [100] * 8 + [2048, 4096]


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("name", ["matmul", "eigvals"])
def test_plain_checksums_are_those_of_the_kernels(name: str, backend: str) -> None:
    pytest.importorskip(backend)
    run = KernelRun(name=name, n=60, backend=backend, repeat=1, seed=3)
    job = KernelJob(name=name, params={"n": 60}, backend=backend, device="cpu", seed=3)
    assert plain.kernel(run) == pytest.approx(kernel.run(job)[0]["checksum"], rel=1e-9)


def test_the_plain_script_reports_what_it_did(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files = source_files()[:6]
    small = Work(
        kernels=(KernelRun(name="eigvals", n=5, backend="numpy", repeat=1),),
        token_batches=tuple(map(tuple, batches(files, 2))),
        hash_commands=tuple(map(hash_command, batches(files, 3))),
    )
    monkeypatch.setattr(plain, "work", lambda with_torch: small)
    assert plain.main(["--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {kind: row["tasks"] for kind, row in figures["kinds"].items()} == {"kernel": 1, "python": 2, "shell": 3}
    assert figures["kinds"]["python"]["check"] == count_tokens(files)
    assert figures["kinds"]["shell"]["check"]["files"] == 6
    assert 0 < sum(row["seconds"] for row in figures["kinds"].values()) <= figures["total_s"]
    assert plain.main([]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:2] == ["python", "2"]


def test_examples_stand_without_tmax() -> None:
    code = (
        "import sys, examples.plain, examples.sample_job; sys.exit(any(name.partition('.')[0].startswith('tmax') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
