"""Real FIFOs: dead readers, torn frames, full pipes, kills and stops."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tmax_pipes
from tests.wait import wait_until
from tmax_pipes.fifo import ControllerFifos, WorkerFifos, scan
from tmax_pipes.frame import Decoder, encode, encode_many
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Message, Run, Who
from tmax_pipes.pipe_errors import ConnectionEnded, PipeError

WHO = Who(epoch=1, swarm="s", worker="w1")


def run_of(size: int) -> Run:
    return Run(task=1, attempt=1, job=PythonJob(call=bytes(range(250)) * (size // 250) + b"x" * (size % 250), label="m.f"))


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerFifos]:
    fifos = WorkerFifos.create(tmp_path, 7)
    yield fifos
    fifos.close()


@pytest.fixture
def controller(worker: WorkerFifos) -> Iterator[ControllerFifos]:
    fifos = ControllerFifos.open(worker.folder)
    yield fifos
    fifos.close()


def ended(fifos: WorkerFifos | ControllerFifos) -> bool:
    try:
        fifos.read()
    except ConnectionEnded:
        return True
    return False


# -- making and opening ----------------------------------------------------------------------------


def test_modes_flags_and_places(tmp_path: Path, worker: WorkerFifos, controller: ControllerFifos) -> None:
    worker.open_results()
    folder = tmp_path / "7.1"
    assert worker.folder == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: oct(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("tasks", "control", "results"), oct(stat.S_IFIFO | 0o600)
    )
    for fd in (*worker.fds(), *controller.fds()):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        assert flags & os.O_NONBLOCK
        assert flags & os.O_ACCMODE != os.O_RDWR
        assert not os.get_inheritable(fd)


def test_a_published_place_can_always_be_opened(tmp_path: Path) -> None:
    """The reading ends are open before the place is known: whoever sees it never meets ENXIO."""
    opened: list[ControllerFifos] = []
    faults: list[BaseException] = []

    def look(count: int) -> None:
        seen: set[str] = set()
        try:
            while len(seen) < count:
                for place in scan(tmp_path):
                    if place.folder not in seen:
                        seen.add(place.folder)
                        opened.append(ControllerFifos.open(place.folder))
        except (PipeError, OSError) as error:
            faults.append(error)

    looker = threading.Thread(target=look, args=(50,))
    looker.start()
    workers = [WorkerFifos.create(tmp_path, life) for life in range(50)]
    looker.join(20)
    assert not looker.is_alive()
    assert faults == []
    for fifos in (*opened, *workers):
        fifos.close()


def test_a_connection_is_made_once(tmp_path: Path, worker: WorkerFifos) -> None:
    before = open_fds()
    with pytest.raises(FileExistsError):
        WorkerFifos.create(tmp_path, 7)
    assert open_fds() == before
    assert ControllerFifos.open(worker.folder).close() is None


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".life-3.1").mkdir()  # where the record is to be written
    before = open_fds()
    with pytest.raises(OSError, match="exists"):
        WorkerFifos.create(tmp_path, 3)
    assert open_fds() == before
    assert [path.name for path in tmp_path.iterdir()] == [".life-3.1"]


def test_dead_reader_is_enxio(worker: WorkerFifos) -> None:
    worker.close()
    before = open_fds()
    with pytest.raises(ConnectionEnded, match="has no reader"):
        ControllerFifos.open(worker.folder)
    worker.remove()
    with pytest.raises(ConnectionEnded, match="gone"):
        ControllerFifos.open(worker.folder)
    assert open_fds() == before


def test_dead_controller_is_enxio_for_results(worker: WorkerFifos, controller: ControllerFifos) -> None:
    controller.write("control", encode(WHO, 1))
    controller.close()
    assert worker.read() == [("control", encode(WHO, 1))]
    with pytest.raises(ConnectionEnded):
        worker.open_results()
    assert ended(worker)


def test_results_open_once_and_only_then_carry(worker: WorkerFifos, controller: ControllerFifos) -> None:
    with pytest.raises(PipeError, match="not open"):
        worker.write("results", b"x")
    worker.open_results()
    fds = worker.fds()
    worker.open_results()
    assert worker.fds() == fds
    worker.write("results", b"x")
    assert controller.read() == [("results", b"x")]


def regular(path: Path) -> None:
    path.touch(0o600)


def link_to_a_fifo(path: Path) -> None:
    os.mkfifo(path.parent / "elsewhere", 0o600)
    path.symlink_to(path.parent / "elsewhere")


def open_to_others(path: Path) -> None:
    os.mkfifo(path)
    path.chmod(0o622)


@pytest.mark.parametrize("squat", [regular, link_to_a_fifo, open_to_others, Path.mkdir])
@pytest.mark.parametrize("lane", ["results", "control", "tasks"])
def test_what_is_not_a_fifo_of_ours_is_refused(worker: WorkerFifos, lane: str, squat: Callable[[Path], None]) -> None:
    path = Path(worker.folder) / lane
    path.unlink()
    squat(path)
    held = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if path.exists() else -1
    before = open_fds()
    with pytest.raises(PipeError) as caught:
        ControllerFifos.open(worker.folder)
    assert not isinstance(caught.value, ConnectionEnded)
    assert open_fds() == before
    os.close(held)


# -- nothing, the end, and what looks like it --------------------------------------------------------


def test_before_the_first_writer_nothing_wakes_and_nothing_ends(worker: WorkerFifos) -> None:
    poll = select.poll()
    for fd in worker.read_fds():
        poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    assert worker.read() == []
    assert worker.read() == []


def test_a_worker_that_has_not_opened_results_has_not_ended(worker: WorkerFifos, controller: ControllerFifos) -> None:
    assert not select.select(controller.read_fds(), [], [], 0)[0]
    assert controller.read() == []
    worker.open_results()
    assert controller.read() == []
    worker.close()
    assert select.select(controller.read_fds(), [], [], 5)[0]
    assert ended(controller)


def test_a_controller_that_came_and_went_ends_the_connection(worker: WorkerFifos) -> None:
    ControllerFifos.open(worker.folder).close()
    assert select.select(worker.read_fds(), [], [], 0)[0], "the end wakes the worker"
    assert ended(worker), "reading nothing here for ever would spin"


def test_epipe_in_the_middle_of_a_frame(worker: WorkerFifos, controller: ControllerFifos) -> None:
    frame = encode(run_of(400_000), 1)
    controller.write("tasks", frame)
    decoder = Decoder("to_worker")
    [(lane, data)] = worker.read()
    assert lane == "tasks"
    assert decoder.feed(data) == []
    assert 0 < len(decoder._rest) < len(frame)
    worker.close()
    with pytest.raises(ConnectionEnded):
        controller.flush()
    assert controller.wants_write, "what was not sent is still known to be so"
    controller.close()
    assert controller.backlog_bytes == 0


def renew(worker: WorkerFifos) -> WorkerFifos:
    """Close and remove this connection; return the next one of the same life."""
    worker.close()
    worker.remove()
    return WorkerFifos.create(Path(worker.folder).parent, worker.place.life, worker.place.n + 1)


@pytest.mark.parametrize("eighth", range(1, 8))
def test_torn_frame_then_reconnect(worker: WorkerFifos, controller: ControllerFifos, eighth: int) -> None:
    frame = encode(run_of(3000), 1)
    controller.write("control", encode(WHO, 1))
    controller.write("tasks", frame[: len(frame) * eighth // 8])
    controller.close()
    old = Decoder("to_worker")
    assert old.feed(dict(worker.read())["tasks"]) == []
    assert ended(worker)
    renewed = renew(worker)
    again = ControllerFifos.open(scan(Path(renewed.folder).parent)[0].folder)
    again.write("tasks", frame)
    assert Decoder("to_worker").feed(renewed.read()[0][1]) == [(1, run_of(3000))]
    again.close()
    renewed.close()


def test_unread_bytes_never_reach_the_next_connection(tmp_path: Path, worker: WorkerFifos, controller: ControllerFifos) -> None:
    controller.write("tasks", b"of the dead")
    controller.close()
    renewed = renew(worker)
    assert renewed.read() == []
    assert [place.n for place in scan(tmp_path)] == [2]
    assert not Path(worker.folder).exists()
    assert worker.fds() == ()
    renewed.close()
    renewed.remove()
    renewed.remove()
    assert list(tmp_path.iterdir()) == []


def test_one_lane_ended_still_hands_out_the_other(worker: WorkerFifos, controller: ControllerFifos) -> None:
    controller.write("control", b"who")
    controller.close()
    assert worker.read() == [("control", b"who")]
    assert ended(worker)


# -- full pipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 1_000_000])
@pytest.mark.parametrize("pipe_bytes", [4096, 8192, 65536])
def test_frames_through_pipes_of_any_size(worker: WorkerFifos, controller: ControllerFifos, pipe_bytes: int, size: int) -> None:
    """8 KiB is what every new pipe has once the user's quota is used up."""
    for fd in controller.fds():
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, pipe_bytes)
    wanted: list[tuple[int, Message]] = [(1, run_of(size)), (1, run_of(3))]
    controller.write("tasks", encode_many([message for _epoch, message in wanted], 1))
    decoder, heard = Decoder("to_worker"), []
    while len(heard) < 2:
        ready = select.select(worker.read_fds(), controller.write_fds(), [], 10)
        assert any(ready), "no progress"
        controller.flush()
        heard += [one for _lane, data in worker.read() for one in decoder.feed(data)]
    assert heard == wanted
    assert not controller.wants_write


def test_a_partial_write_keeps_the_rest(worker: WorkerFifos, controller: ControllerFifos) -> None:
    fcntl.fcntl(controller.fds()[-1], fcntl.F_SETPIPE_SZ, 8192)
    data = bytes(range(256)) * 400
    controller.write("tasks", data)
    assert controller.backlog_bytes == len(data) - 8192
    controller.flush()
    assert controller.backlog_bytes == len(data) - 8192, "a full pipe takes nothing, and says so without waiting"
    assert worker.read() == [("tasks", data[:8192])]
    controller.flush()
    assert worker.read() == [("tasks", data[8192:16384])]


def test_only_the_full_lane_is_watched_for_writing(worker: WorkerFifos, controller: ControllerFifos) -> None:
    controller.write("tasks", bytes(100_000))
    controller.write("control", b"fits")
    assert len(controller.write_fds()) == 1
    assert select.select([], controller.write_fds(), [], 0)[1] == [], "control can be written and would spin"
    assert dict(worker.read())["control"] == b"fits"


# -- other processes -------------------------------------------------------------------------------

READER = """
import os, select, sys
from tmax_pipes.pipe_errors import ConnectionEnded
from tmax_pipes.fifo import WorkerFifos
fifos = WorkerFifos.create(sys.argv[1], 1)
count = 0
while True:
    select.select(fifos.read_fds(), [], [])
    try:
        got = dict(fifos.read())
    except ConnectionEnded:
        sys.exit(0)
    if "control" in got:
        fifos.open_results()
        fifos.write("results", b"hello")
        FORK
    count += len(got.get("tasks", b""))
    if count == 3_000_000:
        fifos.write("results", b"all")
"""
FORK = """
        if os.fork() == 0:
            fifos.close()
            sys.stdin.buffer.read()
            os._exit(0)
"""


class Started:
    """A worker in a process of its own, and the controller's end of its connection."""

    def __init__(self, folder: Path, code: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(tmax_pipes.__file__).parents[1])}
        self.process = subprocess.Popen([sys.executable, "-P", "-c", code, str(folder)], env=environment, stdin=subprocess.PIPE)
        [place] = wait_until(lambda: scan(folder))
        assert place.pid == self.process.pid
        self.fifos = ControllerFifos.open(place.folder)
        self.fifos.write("control", b"who")
        self.expect(b"hello")

    def expect(self, word: bytes) -> None:
        got = b""
        while got != word:
            ready = select.select(self.fifos.read_fds(), self.fifos.write_fds(), [], 10)
            assert any(ready), f"{word!r} does not come"
            self.fifos.flush()
            got += b"".join(data for _lane, data in self.fifos.read())

    def close(self) -> None:
        self.fifos.close()
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Started]]:
    started: list[Started] = []

    def begin(code: str) -> Started:
        started.append(Started(tmp_path, code))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def test_killed_worker_ends_the_connection(start: Callable[[str], Started]) -> None:
    one = start(READER.replace("FORK", ""))
    os.kill(one.process.pid, signal.SIGKILL)
    assert select.select(one.fifos.read_fds(), [], [], 10)[0]
    assert ended(one.fifos)
    one.process.wait(10)  # a dying process closes its descriptors one after another
    with pytest.raises(ConnectionEnded):
        one.fifos.write("tasks", b"x")


def test_closed_controller_ends_the_worker(start: Callable[[str], Started]) -> None:
    one = start(READER.replace("FORK", ""))
    one.fifos.close()
    assert one.process.wait(10) == 0


def test_a_stopped_reader_costs_memory_not_time(start: Callable[[str], Started]) -> None:
    one = start(READER.replace("FORK", ""))
    os.kill(one.process.pid, signal.SIGSTOP)
    wait_until(lambda: b") T " in Path(f"/proc/{one.process.pid}/stat").read_bytes())
    for _ in range(30):
        one.fifos.write("tasks", bytes(100_000))
    assert one.fifos.backlog_bytes >= 2_900_000
    assert not ended(one.fifos)
    assert select.select([], one.fifos.write_fds(), [], 0)[1] == []
    os.kill(one.process.pid, signal.SIGCONT)
    one.expect(b"all")
    assert not one.fifos.wants_write


def test_a_forked_child_that_closed_its_ends_does_not_keep_the_connection(start: Callable[[str], Started]) -> None:
    one = start(READER.replace("FORK", FORK))
    children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children")
    [child] = wait_until(lambda: children.read_text().split())
    wait_until(lambda: not [link for link in Path(f"/proc/{child}/fd").iterdir() if "/1.1/" in str(link.readlink())])
    os.kill(one.process.pid, signal.SIGKILL)
    assert select.select(one.fifos.read_fds(), [], [], 10)[0]
    assert ended(one.fifos)
    assert Path(f"/proc/{child}").exists()


def test_no_descriptor_is_left_when_descriptors_run_out(worker: WorkerFifos) -> None:
    """EMFILE at the second or third of the three opens: an OSError, and what was opened is closed."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_fds()
    for spare in (0, 1, 2):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(free_numbers(3)[spare : spare + 1]), hard))
        try:
            with pytest.raises(OSError) as caught:
                ControllerFifos.open(worker.folder)
            assert caught.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert open_fds() == before


def free_numbers(count: int) -> list[int]:
    """The next numbers the system will give to descriptors."""
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    for fd in fds:
        os.close(fd)
    return fds
