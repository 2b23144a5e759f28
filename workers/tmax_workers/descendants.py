"""Processes that a task left running: found through the kernel's process tree, and ended.

::

    adopt_orphans      from now on a descendant whose parent ends becomes a child of this process, also after setsid or a double fork
    has_children       one system call: usually False
    left_running       the children that run; those that have ended are reaped
    end_all            TERM to every descendant -> grace -> KILL -> reaped          (blocks: for the main thread)
    TreeEnding         the same in steps, for an event loop

A worker runs one task at a time and, beside a shell job's leader, has no children of its own.  So every descendant
belongs to the task that runs or has just ended, whatever session, group or environment it has.
Except the controller of a swarm: a tmax command starts one where there is none, also inside a task.

A task with ``keep_background`` runs without adoption: what its program leaves becomes a child of the next reaper above the
worker, outside of the worker's tree, so it is never attributed to a later task.
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
"""Time between TERM and KILL for what a task left running."""
_KILL_WAIT_S = 1.0
"""Time to wait after KILL; a process that outlives it hangs in the kernel."""
_PR_SET_CHILD_SUBREAPER = 36
_ANY_CHILD = os.WEXITED | os.WNOHANG | os.WNOWAIT
_CONTROLLER = (b"-m", b"tmax.controller")
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans(*, wanted: bool = True) -> None:
    """Make this process the parent of its descendants whose parents end, or (``wanted`` False) stop that.  Present children stay."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def has_children() -> bool:
    """Whether this process has any child, running or ended and not reaped, of any thread; costs about a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, _ANY_CHILD)
    except ChildProcessError:
        return False
    return True


def children() -> list[int]:
    """Return the children of this process, of any thread, zombies included; without children it costs one system call."""
    return _children()(os.getpid()) if has_children() else []


def left_running(spare: Collection[int] = ()) -> list[int]:
    """Return the children that run, without ``spare``; those that have ended are reaped."""
    reap(spare)
    return _running(spare) if has_children() else []


def reap(spare: Collection[int] = ()) -> None:
    """Reap ended children until the first one in ``spare``."""
    try:
        while (ended := os.waitid(os.P_ALL, 0, _ANY_CHILD)) is not None and ended.si_pid not in spare:
            os.waitpid(ended.si_pid, os.WNOHANG)
    except ChildProcessError:
        pass  # none is left


def helpers() -> frozenset[int]:
    """Return the resource tracker of Python's ``multiprocessing``, if it was started.

    It does not count as left running: it ends after this process, and frees the shared memory that is left.
    """
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    pid = getattr(tracker, "_pid", None)
    return frozenset({pid}) if isinstance(pid, int) else frozenset()


def end_all(grace_s: float = GRACE_S, spare: Collection[int] = ()) -> list[int]:
    """End and reap every descendant, except ``spare`` and its descendants; return those that did not end.

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
    """Ends every descendant of this process, in steps.

    Call ``step`` until it returns True: at once, when one of ``fds`` is readable, and at ``deadline``.
    ``grace_s`` None: KILL only by ``kill``.  ``terminated_group``: a process group that has received TERM already.
    """

    def __init__(self, grace_s: float | None = GRACE_S, spare: Collection[int] = (), terminated_group: int = 0) -> None:
        self.left: list[int] = []
        """Children that did not end: not permitted to signal, or hanging in the kernel."""
        self._spare = frozenset(spare)
        self._terminated_group = terminated_group
        self._terminated: set[int] = set()
        self._not_permitted: set[int] = set()
        self._pidfds: dict[int, int] = {}
        self._kill_at = None if grace_s is None else time.monotonic() + grace_s
        self._give_up_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When ``step`` is due without an event, on the monotonic clock; None: wait for an event."""
        return self._kill_at if self._give_up_at is None else self._give_up_at

    def fds(self) -> Collection[int]:
        """Return pidfds, one of which becomes readable when a child ends; they change with each step."""
        return self._pidfds.values()

    def kill(self) -> None:
        """End the grace: the next step sends KILL."""
        if self._give_up_at is None:
            self._kill_at = time.monotonic()

    def step(self) -> bool:
        """Reap ended processes and signal the others; return whether none is left to wait for."""
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
        """Return the running children; when there is none, all have been reaped."""
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
                    # A child that is not reaped keeps its pid.  If it has ended meanwhile, the pidfd is readable at once.
                    self._pidfds[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    pass  # a thread of the task has reaped it

    def close(self) -> None:
        """Close the pidfds; a second call is harmless."""
        self._watch(())


def _running(spare: Collection[int]) -> list[int]:
    children = _children()(os.getpid())
    return [pid for pid in children if pid not in spare and _family(pid)[2] not in ENDED_STATES and not _is_controller(pid)]


def _is_controller(pid: int) -> bool:
    """Whether this is the controller of a swarm, which serves more than the task whose command started it."""
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
    """Signal a process if it still is a child of ``parent``, so that a reused pid is never signalled; False when it is not permitted."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return True  # it has ended
    try:
        now_parent, group, _ = _family(pid)
        # If its parent has just ended, it is our child now.
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
    """Return a function that lists the children of a process; none when it has ended.

    A child that ends during the listing may hide another one: a caller that needs all must repeat it.
    """
    if os.path.exists("/proc/thread-self/children"):
        return _listed
    # A kernel without CONFIG_PROC_CHILDREN: list all processes once for the whole tree.
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
            pass  # the thread has ended: another thread has its children
    return found
