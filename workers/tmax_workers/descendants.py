"""Processes that a task started and left running: found through the kernel's own tree of processes, and ended.

::

    adopt_orphans      from now on a descendant whose parent ends becomes a child of this process, also after setsid or a double fork
    has_children       one system call: the usual answer is no
    left_running       the children that run; those that have ended are reaped
    end_all            TERM to every descendant -> grace -> KILL -> reaped          (blocks: for the main thread)
    Ending             the same in steps, for a loop

A worker runs one task at a time and, beside a shell job's leader, has no children of its own.  So every descendant
belongs to the task that runs or has just ended, whatever session, group or environment it gave itself.
One is spared: the controller of a swarm, which a tmax command starts where there is none, also one inside a task.

A task that keeps its background runs without adoption: what its program leaves goes to the next reaper above the worker
and is out of its tree, so that no later task can take it for its own.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from tmax_pipes.proc_stat import ENDED_STATES, stat_fields

GRACE_S = 1.0
"""What a task left running has so long after TERM."""
_KILL_WAIT_S = 1.0
"""A process that has not ended so long after KILL hangs in the kernel; nobody waits for it any longer."""
_PR_SET_CHILD_SUBREAPER = 36
_ANY_CHILD = os.WEXITED | os.WNOHANG | os.WNOWAIT
_CONTROLLER = (b"-m", b"tmax.controller")
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans(*, wanted: bool = True) -> None:
    """Make this process the parent of its descendants whose parents end, or (``wanted`` False) no longer so.  Children it has stay its own."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def has_children() -> bool:
    """Whether this process has any child, running or ended and not reaped, of whichever thread; costs about a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, _ANY_CHILD)
    except ChildProcessError:
        return False
    return True


def children() -> list[int]:
    """Return the children of this process, of whichever thread, those that have ended and are not reaped included; none costs only one system call."""
    return _children()(os.getpid()) if has_children() else []


def left_running(spare: Collection[int] = ()) -> list[int]:
    """Return the children that run, without ``spare``; those that have ended are reaped."""
    reap(spare)
    return _running(spare) if has_children() else []


def reap(spare: Collection[int] = ()) -> None:
    """Reap the children that have ended, as far as none of ``spare`` is among them."""
    try:
        while (ended := os.waitid(os.P_ALL, 0, _ANY_CHILD)) is not None and ended.si_pid not in spare:
            os.waitpid(ended.si_pid, os.WNOHANG)
    except ChildProcessError:
        pass  # none is left


def helpers() -> frozenset[int]:
    """Return the process by which Python's ``multiprocessing`` cleans up after this one, if it was started.

    It is nobody's left work: it ends by itself when this process has, and frees what shared memory is left then.
    """
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    pid = getattr(tracker, "_pid", None)
    return frozenset({pid}) if isinstance(pid, int) else frozenset()


def end_all(grace_s: float = GRACE_S, spare: Collection[int] = ()) -> list[int]:
    """End every descendant without ``spare`` and what descends from it, and reap them; return those that would not end.

    TERM, and KILL ``grace_s`` later.  Blocks until they have ended.
    """
    if not has_children():
        return []
    ending = TreeEnding(grace_s, spare)
    while not ending.step():
        poll = select.poll()
        for fd in ending.fds():
            poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, ending.deadline - time.monotonic()) * 1000 if ending.deadline is not None else None)
    return ending.left


def kill_tree(root: int) -> None:
    """Send KILL to ``root``, a child that is not reaped, and to all that descends from it."""
    for pid, parent in list(_tree([root], os.getpid(), ())):
        _signal(pid, parent, signal.SIGKILL, 0)


class TreeEnding:
    """The end of everything that descends from this process, in steps.

    Call ``step`` until it returns True: at once, when one of ``fds`` is readable, and at ``deadline``.
    ``grace_s`` None: KILL only by ``kill``.  ``terminated_group``: a process group that has had its TERM already.
    """

    def __init__(self, grace_s: float | None = GRACE_S, spare: Collection[int] = (), terminated_group: int = 0) -> None:
        self.left: list[int] = []
        """Children that would not end: not ours to signal, or hanging in the kernel."""
        self._spare = frozenset(spare)
        self._terminated_group = terminated_group
        self._terminated: set[int] = set()
        self._not_permitted: set[int] = set()
        self._pidfds: dict[int, int] = {}
        self._kill_at = None if grace_s is None else time.monotonic() + grace_s
        self._give_up_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When ``step`` is due though nothing happened, on the monotonic clock; None: only an event can matter."""
        return self._kill_at if self._give_up_at is None else self._give_up_at

    def fds(self) -> Collection[int]:
        """Return the descriptors of which one becomes readable when a child ends; they change with each step."""
        return self._pidfds.values()

    def kill(self) -> None:
        """The grace is over: the next step sends KILL."""
        if self._give_up_at is None:
            self._kill_at = time.monotonic()

    def step(self) -> bool:
        """Reap what has ended and signal what has not; return whether nothing is left that can be waited for."""
        now = time.monotonic()
        if self._give_up_at is None and self._kill_at is not None and now >= self._kill_at:
            self._give_up_at = now + _KILL_WAIT_S
        running = self._running_now()
        self._signal_all(running)
        awaited = [pid for pid in running if pid not in self._not_permitted]
        if not awaited or (self._give_up_at is not None and now >= self._give_up_at):
            self.left = running
            self.close()
            return True
        self._watch(awaited)
        return False

    def _running_now(self) -> list[int]:
        """Return who runs; when nobody does, all have been reaped."""
        while True:
            reap(self._spare)
            running = _running(self._spare) if has_children() else []
            if running:
                return running
            reap(self._spare)
            if self._spare or not has_children() or any(map(_is_controller, _children()(os.getpid()))):
                return []

    def _signal_all(self, running: Iterable[int]) -> None:
        kills = self._give_up_at is not None
        for pid, parent in list(_tree(running, os.getpid(), self._spare)):
            if kills:
                permitted = _signal(pid, parent, signal.SIGKILL, 0)
            elif pid in self._terminated:
                continue
            else:
                self._terminated.add(pid)
                permitted = _signal(pid, parent, signal.SIGTERM, self._terminated_group)
                _signal(pid, parent, signal.SIGCONT, 0)  # a stopped process acts on TERM only when it runs again
            if not permitted:
                self._not_permitted.add(pid)

    def _watch(self, running: Collection[int]) -> None:
        for pid in self._pidfds.keys() - set(running):
            os.close(self._pidfds.pop(pid))
        for pid in running:
            if pid not in self._pidfds:
                try:
                    # Ours and not reaped: it is this very process.  What has ended since the look makes it readable at once.
                    self._pidfds[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    pass  # a thread of the task's own has reaped it

    def close(self) -> None:
        """Let go of the descriptors; twice is harmless."""
        self._watch(())


def _running(spare: Collection[int]) -> list[int]:
    children = _children()(os.getpid())
    return [pid for pid in children if pid not in spare and _family(pid)[2] not in ENDED_STATES and not _is_controller(pid)]


def _is_controller(pid: int) -> bool:
    """Whether this is the controller of a swarm: it serves others beside the task whose command started it."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
    except OSError:
        return False
    return _CONTROLLER in itertools.pairwise(arguments)


def _tree(roots: Iterable[int], parent: int, spare: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield each process and its parent, from ``roots`` down."""
    level = [(pid, parent) for pid in roots]
    children_of = _children() if level else None
    while level and children_of is not None:
        yield from level
        level = [(pid, above) for above, _ in level for pid in children_of(above) if pid not in spare and not _is_controller(pid)]


def _signal(pid: int, parent: int, number: int, unless_group: int) -> bool:
    """Signal this process if it still is a child of ``parent``, so that a number used again is never hit; False when it is not ours to signal."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return True  # it has ended
    try:
        now_parent, group, _ = _family(pid)
        # Its parent may just have ended, which makes it our child.
        if now_parent in {parent, os.getpid()} and (not unless_group or group != unless_group):
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass  # it has ended
    except PermissionError:
        return False
    finally:
        os.close(fd)
    return True


def _family(pid: int) -> tuple[int, int, bytes]:
    """Return the parent, the group and the state of a process; zeros and X when it has ended."""
    try:
        state, parent, group = stat_fields(pid)[:3]
    except OSError:
        return 0, 0, b"X"
    return int(parent), int(group), state


def _children() -> Callable[[int], list[int]]:
    """Return what names the children of a process; none when it has ended.

    A child that ends during the look may hide another one: whoever must have all looks again.
    """
    if os.path.exists("/proc/thread-self/children"):
        return _listed
    # A kernel without CONFIG_PROC_CHILDREN: one look at all processes serves for the whole tree.
    by_parent: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            by_parent.setdefault(_family(int(name))[0], []).append(int(name))
    return lambda pid: by_parent.get(pid, [])


def _listed(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        except OSError:
            pass  # the thread has ended: its children are another one's
    return found
