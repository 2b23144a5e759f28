"""What tmax keeps is readable and writable to its owner, whatever the umask of a client or a task takes away."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.box import Box

PROGRAM = """
import os
from tmax import Swarm

with Swarm.connect() as swarm:
    assert swarm.submit(len, b"x" * 300_000).result(30) == 300_000
    swarm.submit(print, "y" * 20_000).result(30)
    assert len(swarm.shell(["seq", "4000"]).result(30).output) == 0
    assert len(swarm.submit(bytes, 300_000).result(30)) == 300_000
"""


def closed(folder: Path) -> list[str]:
    """The files and folders that their owner cannot read, write or (folders) enter, with their modes."""
    found = []
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        wanted = stat.S_IRWXU if stat.S_ISDIR(mode) else stat.S_IRUSR | stat.S_IWUSR
        if mode & wanted != wanted:
            found.append(f"{stat.filemode(mode)} {path}")
    return found


@pytest.mark.parametrize("umask", [0o277, 0o777])
def test_nothing_is_closed_to_its_owner(box: Box, umask: int) -> None:
    box.tmax("init", "-n", "1", umask=umask)
    box.tmax("run", "--", "sh", "-c", "seq 4000", umask=umask)
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=box.env, cwd=box.root, capture_output=True, text=True, timeout=60, check=False, umask=umask
    )
    assert program.returncode == 0, program.stderr
    assert os.listdir(box.state / "blobs")
    assert closed(box.root / "state") + closed(box.root / "run") == []
