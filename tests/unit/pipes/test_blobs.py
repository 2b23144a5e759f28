"""Blobs: whole or not there, and never anyone else's."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tmax_pipes.blobs import body_of, get, load, put, sweep
from tmax_pipes.jobs import BLOB_THRESHOLD_BYTES, Blob
from tmax_pipes.pipe_errors import BlobError

DATA = bytes(range(256)) * 400


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 3_000_000])
def test_round_trip(tmp_path: Path, size: int) -> None:
    data = (DATA * (size // len(DATA) + 1))[:size]
    blob = put(tmp_path, data)
    assert blob == Blob(digest=hashlib.sha256(data).hexdigest(), size_bytes=size)
    assert get(str(tmp_path), blob) == data
    [path] = tmp_path.iterdir()
    assert path.name == blob.digest
    assert path.stat().st_mode & 0o777 == 0o600


def test_again_is_harmless_and_makes_it_young(tmp_path: Path) -> None:
    blob = put(tmp_path, DATA)
    path = tmp_path / blob.digest
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert put(tmp_path, DATA) == blob
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1
    assert get(tmp_path, blob) == DATA


def cut_short(path: Path) -> None:
    path.write_bytes(DATA[:-1])


def flipped(path: Path) -> None:
    path.write_bytes(DATA[:-1] + b"?")


def open_to_others(path: Path) -> None:
    path.chmod(0o640)


def linked(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def test_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    blob = Blob(digest="0" * 64, size_bytes=1)
    (tmp_path / blob.digest).mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlobError, match="regular"):
        get(tmp_path, blob)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("damage", [Path.unlink, cut_short, flipped, open_to_others, linked, fifo])
def test_damage_is_refused_then_mended(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    blob = put(tmp_path, DATA)
    damage(tmp_path / blob.digest)
    with pytest.raises(BlobError) as caught:
        get(tmp_path, blob)
    assert caught.value.path == str(tmp_path / blob.digest)
    assert caught.value.why
    assert put(tmp_path, DATA) == blob
    assert get(tmp_path, blob) == DATA


def test_foreign_owner_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    blob = put(tmp_path, DATA)
    os.chown(tmp_path / blob.digest, 12345, -1)
    with pytest.raises(BlobError, match="another user"):
        get(tmp_path, blob)


def test_wrong_size_is_refused(tmp_path: Path) -> None:
    blob = put(tmp_path, DATA)
    with pytest.raises(BlobError, match="were named"):
        get(tmp_path, Blob(digest=blob.digest, size_bytes=1))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "/etc/passwd", "A" * 64, "a" * 63, "a" * 63 + "/", "a" * 65, "a" * 63 + "\x00"])
def test_a_name_that_is_no_digest_leads_nowhere(tmp_path: Path, digest: str) -> None:
    with pytest.raises(BlobError, match="SHA-256"):
        get(tmp_path, Blob(digest=digest, size_bytes=1))


def test_bodies_travel_inline_up_to_the_threshold(tmp_path: Path) -> None:
    small, large = bytes(BLOB_THRESHOLD_BYTES), bytes(BLOB_THRESHOLD_BYTES + 1)
    assert body_of(tmp_path, small) is small
    assert list(tmp_path.iterdir()) == []
    body = body_of(tmp_path, large)
    assert isinstance(body, Blob)
    assert load(tmp_path, body) == large
    assert load(tmp_path, small) is small


def test_no_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "missing", DATA)
    assert sweep(tmp_path / "missing", ()) == 0


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            put(tmp_path, DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_what_nothing_names(tmp_path: Path) -> None:
    kept, gone, young = (put(tmp_path, bytes((number,))) for number in range(3))
    for name in (".new-0123", "README", "a" * 63):
        (tmp_path / name).touch()
    for path in tmp_path.iterdir():
        if path.name != young.digest:
            os.utime(path, (1, 1))
    assert sweep(tmp_path, [kept.digest]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {kept.digest, young.digest, "README", "a" * 63}
    assert sweep(tmp_path, {kept.digest: 1}, min_age_s=0.0) == 1
    assert get(tmp_path, kept) == b"\x00"
    with pytest.raises(BlobError):
        get(tmp_path, gone)
