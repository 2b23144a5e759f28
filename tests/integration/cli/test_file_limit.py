"""``ulimit -f``: a limit on the size of files is the command's affair, never taken for a full disk."""

from __future__ import annotations

import resource
import subprocess
from typing import Any

from tests.box import Box


def limited(hard: int, soft: int) -> Any:
    """Return what sets the limit in a child."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_swarm_started_under_a_soft_limit_is_not_bound_by_it_and_its_commands_have_their_own(box: Box) -> None:
    infinite = resource.RLIM_INFINITY
    subprocess.run(
        box.command("init", "-n", "1"), env=box.env, cwd=box.root, check=True, capture_output=True, preexec_fn=limited(infinite, 1 << 20)
    )
    assert "disk" not in box.tmax("status").stdout
    box.tmax("run", "--", "sh", "-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >big")
    assert (box.root / "big").stat().st_size == 3_000_000
    text = "head -c 3000000 /dev/zero >small; echo $?"
    done = subprocess.run(
        box.command("run", "--", "sh", "-c", text),
        env=box.env,
        cwd=box.root,
        capture_output=True,
        check=False,
        preexec_fn=limited(infinite, 1 << 20),
    )
    assert (box.root / "small").stat().st_size == 1 << 20
    assert done.stdout != b"0\n"


def test_a_hard_limit_too_low_for_a_store_is_named(box: Box) -> None:
    done = subprocess.run(
        box.command("init", "-n", "1"),
        env=box.env,
        cwd=box.root,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=limited(1 << 20, 1 << 20),
    )
    assert done.returncode == 1
    assert "1048576 bytes" in done.stderr
    assert "ulimit -f" in done.stderr
