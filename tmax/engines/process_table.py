"""The processes of this machine, as /proc shows them, and pidfds: identity is pid + start ticks."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass

from tmax.engines.engine import WorkerFigures
from tmax.engines.life_mark import KEPT, VARIABLE
from tmax_pipes.proc_stat import start_ticks, stat_fields

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One process of ours, as /proc showed it."""

    pid: int
    ticks: int
    parent: int
    group: int
    session: int
    mark: str
    """Empty: it has none."""
    kept: bool = False
    """A task with ``keep_background`` started it: it belongs to no worker, also where it is still in its worker's session."""
    unsure: bool = False
    """It was between fork and exec, when its environment cannot be read."""


def scan() -> list[Seen]:
    """Return every process of our user that has not ended, without ourselves."""
    found = (_see(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in found if one is not None and one.pid != os.getpid()]


def _see(pid: int) -> Seen | None:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return None
        state, *numbers = stat_fields(pid)
        # A process whose main thread has ended is a zombie already, while another thread may still finish a system call.
        if state == b"X" or (state == b"Z" and int(numbers[16]) <= 1):
            return None
        environment = read_file(f"/proc/{pid}/environ")
    except (OSError, ValueError):
        return None  # it has ended meanwhile, or hides its environment because it runs with other rights
    parent, group, session, ticks = int(numbers[0]), int(numbers[1]), int(numbers[2]), int(numbers[18])
    is_kernel = parent == 2 or pid == 2
    return Seen(
        pid=pid,
        ticks=ticks,
        parent=parent,
        group=group,
        session=session,
        mark=mark_in(environment),
        kept=bool(_value_in(environment, KEPT)),
        unsure=not environment and not is_kernel and not _read_or_empty(f"/proc/{pid}/cmdline"),
    )


def figures_of(pid: int, ticks: int) -> WorkerFigures | None:
    """Return what exactly this process uses; None when it has ended (or its number belongs to another one now)."""
    try:
        fields = stat_fields(pid)
    except (OSError, ValueError):
        return None
    if int(fields[19]) != ticks:
        return None
    return WorkerFigures(cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S, rss_bytes=int(fields[21]) * _PAGE_BYTES)


def read_file(path: str) -> bytes:
    """Return what a file of /proc holds."""
    # os.open and one read: half the price of a file object, and a machine has thousands of processes.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 256 * 1024):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _read_or_empty(path: str) -> bytes:
    try:
        return read_file(path)
    except OSError:
        return b""


def mark_in(environment: bytes) -> str:
    """Return the mark of a life in an environment block; empty when it has none."""
    return _value_in(environment, VARIABLE)


def _value_in(environment: bytes, variable: str) -> str:
    name = variable.encode() + b"="
    at = 0 if environment.startswith(name) else environment.find(b"\0" + name) + 1
    if at == 0 and not environment.startswith(name):
        return ""
    value = environment[at + len(name) :]
    return os.fsdecode(value.partition(b"\0")[0])


def is_worker(pid: int, mark: str) -> bool:
    """Return whether this process looks like a worker: a number in a store may, after a reboot, be anybody's."""
    try:
        return mark_in(read_file(f"/proc/{pid}/environ")) == mark or b"tmax_workers" in read_file(f"/proc/{pid}/cmdline")
    except OSError:
        return False


# -- pidfds ----------------------------------------------------------------------------------------


def open_pidfd(pid: int, ticks: int) -> int:
    """Return a pidfd of exactly this process, -1 when it has ended (or its number belongs to another one now)."""
    if pid <= 0 or not ticks:
        return -1
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if start_ticks(pid) != ticks:
        os.close(fd)
        return -1
    return fd


def kill(fd: int) -> None:
    """Send SIGKILL through a pidfd; a process that has ended is no error."""
    send_signal(fd, signal.SIGKILL)


def send_signal(fd: int, number: signal.Signals) -> None:
    """Send a signal through a pidfd; a process that has ended is no error."""
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass


def has_ended(fd: int, timeout_s: float = 0.0) -> bool:
    """Return whether the process of this pidfd has ended, after waiting for at most ``timeout_s``."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * timeout_s))
