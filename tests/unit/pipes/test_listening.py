"""A socket is there only once it listens: whoever finds its name can connect."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from tmax_pipes.listening import listen_at


def test_whoever_finds_the_name_can_connect(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    stop, refused, connected = threading.Event(), [], []

    def connect() -> None:
        while not stop.is_set():
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    sock.connect(path)
                    connected.append(1)
                except FileNotFoundError:
                    pass
                except ConnectionRefusedError:
                    refused.append(1)

    thread = threading.Thread(target=connect)
    thread.start()
    # The former ones listen on: only a name whose socket does not listen yet can refuse.
    held = [listen_at(path, 4096) for _ in range(500)]
    stop.set()
    thread.join()
    for one in held:
        one.close()
    assert connected and not refused


def test_it_is_private_and_leaves_nothing_beside(tmp_path: Path) -> None:
    with listen_at(str(tmp_path / "socket"), 1):
        assert stat.S_IMODE(os.lstat(tmp_path / "socket").st_mode) == 0o600
        assert os.listdir(tmp_path) == ["socket"]


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "socket").mkdir()
    with pytest.raises(OSError, match="directory"):
        listen_at(str(tmp_path / "socket"), 1)
    assert os.listdir(tmp_path) == ["socket"]
