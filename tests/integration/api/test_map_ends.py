"""A map that is interrupted, or whose results are not wanted any more, leaves nothing in the queue."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.integration.api.work import double, leave_mark_and_wait
from tests.wait import wait_until
from tmax import Swarm

Script = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def permanent(box: Box, monkeypatch: pytest.MonkeyPatch) -> Iterator[Swarm]:
    """A permanent swarm of one worker, used from this process."""
    box.init(1)
    for name in [name for name in os.environ if name.startswith(("TMAX", "TMUX", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    with Swarm.connect() as made:
        yield made


@pytest.fixture
def busy(permanent: Swarm, box: Box) -> Iterator[Path]:
    """Its worker is busy until the returned file exists."""
    gate = box.root / "gate"
    first = permanent.submit(leave_mark_and_wait, str(box.root / "mark"), str(gate))
    wait_until((box.root / "mark").exists)
    yield gate
    gate.touch()
    assert first.result(30) == "went on"


def queued(swarm: Swarm) -> int:
    """Return how many tasks have not begun."""
    counts = swarm.status().tasks
    return counts["ready"] + counts["waiting"] + counts["sent"]


ENDLESS = """
    import itertools, os, signal, sys
    from tmax import Swarm
    def f(x): return x
    def rows():
        for number in itertools.count():
            yield number
            if number == 20_000:
                os.kill(os.getpid(), signal.SIGINT)
    Swarm.connect().map(f, rows(){more})
"""


@pytest.mark.parametrize("more", ["", ", chunksize=7"])
def test_ctrl_c_in_a_map_over_an_endless_iterator_takes_it_all_back(box: Box, script: Script, more: str) -> None:
    box.init(1)
    box.tmax("hold")
    running = script(ENDLESS.format(more=more))
    _, err = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGINT, err
    counts = box.status()["tasks"]
    assert counts["ready"] == counts["sent"] == 0
    assert "may still be queued" not in err


def test_a_second_ctrl_c_leaves_at_once_with_a_word(box: Box, script: Script) -> None:
    box.init(1)
    box.tmax("hold")
    pid = box.controller_pid()
    running = script(
        ENDLESS.format(more="")
        .replace("20_000", "2_000")
        .replace("import itertools", "import tmax.api.cancellation as w; w.WITHDRAW_S = 60; import itertools")
        .replace("os.kill(os", f"os.kill({pid}, signal.SIGSTOP); print('stopped', flush=True); os.kill(os")
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "stopped\n"
    began = time.monotonic()
    while running.poll() is None and time.monotonic() - began < 20:
        running.send_signal(signal.SIGINT)  # one leaves the map, one the end of the program
        try:
            running.wait(1)
        except subprocess.TimeoutExpired:
            continue
    os.kill(pid, signal.SIGCONT)
    _, err = running.communicate(timeout=60)
    assert running.returncode in {130, -signal.SIGINT}
    assert "tasks of this map may still be queued: tmax ps lists them" in err


def test_an_iterable_that_raises_takes_back_what_came_before(permanent: Swarm, busy: Path) -> None:
    def rows() -> Iterator[int]:
        yield from range(500)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        permanent.map(double, rows())
    assert queued(permanent) == 0


def test_results_left_half_read_take_back_the_rest(permanent: Swarm, box: Box) -> None:
    first = permanent.map(double, range(1))
    assert next(first) == 0
    for leave in ("close", "collect"):
        gate = box.root / f"gate-{leave}"
        results = permanent.map(leave_or_wait, [""] + [str(gate)] * 50)
        assert next(results) == "at once"
        wait_until(lambda: permanent.status().tasks["running"])
        if leave == "close":
            results.close()  # type: ignore[attr-defined]  # a generator, as in the standard library
        else:
            del results
            gc.collect()
        wait_until(lambda: queued(permanent) == 0)
        assert permanent.status().tasks["running"] == 1  # what has begun is left to end
        gate.touch()
        wait_until(lambda: not permanent.status().tasks["running"])


def leave_or_wait(gate: str) -> str:
    return leave_mark_and_wait(f"{gate}.mark", gate) if gate else "at once"


def test_a_map_whose_results_nobody_wants_runs_as_in_the_standard_library(permanent: Swarm, box: Box, tmp_path: Path) -> None:
    permanent.map(touch, [str(tmp_path / str(number)) for number in range(20)])
    gc.collect()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 20)


def touch(path: str) -> None:
    Path(path).touch()


def test_a_map_that_is_not_in_time_takes_back_the_rest(permanent: Swarm, busy: Path) -> None:
    results = permanent.map(double, range(2000), timeout=0.1)
    with pytest.raises(TimeoutError):
        next(results)
    assert queued(permanent) == 0


def test_a_map_can_be_cut_short_while_it_is_still_on_its_way(permanent: Swarm, busy: Path) -> None:
    results = permanent.map(double, range(3000), timeout=0.0)
    with pytest.raises(TimeoutError):
        next(results)
    assert queued(permanent) == 0
