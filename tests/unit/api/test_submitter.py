"""What a program tells workers of itself."""

from __future__ import annotations

import locale
import os
import resource
import sys
from pathlib import Path

import pytest

from tmax.api.searchpath import SearchPath
from tmax.api.shared_bodies import SharedBodies
from tmax.api.submitter import Submitter
from tmax_pipes import blobs
from tmax_pipes.jobs import Blob, decode_context, decode_submitter_environment


def test_a_context_holds_its_initializer_itself_so_that_whoever_keeps_the_context_keeps_both(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    initializer = b"i" * 100_000
    where, body = Submitter(SharedBodies(str(tmp_path)), SearchPath(), initializer=initializer).names()
    assert isinstance(body, Blob) and isinstance(where, Blob)
    assert set(os.listdir(tmp_path)) == {body.digest, where.digest}
    assert decode_context(blobs.get(tmp_path, body)).initializer == initializer


def test_what_changes_between_two_looks_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    submitter = Submitter(SharedBodies(str(tmp_path)), SearchPath())
    for number in range(300):  # from some number on the folder is asked for in another way
        folder = tmp_path / f"{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        body = submitter.names()[0]
        assert isinstance(body, Blob)
        assert decode_submitter_environment(blobs.get(tmp_path, body)).cwd == os.fsencode(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        body = submitter.names()[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(body, Blob)
    assert decode_submitter_environment(blobs.get(tmp_path, body)).limits[resource.RLIMIT_NOFILE] == (soft - 1, hard)


def test_a_folder_that_was_removed_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    submitter = Submitter(SharedBodies(str(tmp_path)), SearchPath())
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for _ in range(150):
        body = submitter.names()[0]
    assert isinstance(body, Blob)
    assert decode_submitter_environment(blobs.get(tmp_path, body)).cwd == os.fsencode(gone) + b" (deleted)"


@pytest.mark.parametrize("looks", [1, 150])
def test_arguments_and_locale_are_those_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    tmp_path.chmod(0o700)
    submitter = Submitter(SharedBodies(str(tmp_path)), SearchPath())

    def found() -> tuple[tuple[str, ...], str]:
        body = submitter.submitter_environment()
        assert isinstance(body, Blob)
        told = decode_submitter_environment(blobs.get(tmp_path, body))
        return told.argv, told.locale

    before = locale.setlocale(locale.LC_ALL, None)
    monkeypatch.setattr(sys, "argv", ["one"])
    try:
        for name in ("C", "C.UTF-8", "C"):
            for _ in range(looks):
                submitter.submitter_environment()
            named = locale.setlocale(locale.LC_ALL, name)
            assert found() == (tuple(sys.argv), named)
            sys.argv.append(name)  # the same list
            assert found() == (tuple(sys.argv), named)
        words = tuple(sys.argv)
        monkeypatch.delattr(sys, "argv")
        assert found()[0] == words
    finally:
        locale.setlocale(locale.LC_ALL, before)
