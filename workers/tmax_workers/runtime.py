"""The life of a worker process.

::

    main(options)
      signal handlers, terminal, capture of descriptors 1 and 2
      preload (threads before, enforced after)
      IO thread: publish FIFOs, announce, Who --> Hello --> Run...
      main thread: inbox --> jobs.run --> coordinator.ended --> the next one
      ExitWorker --> spill results that are not Stored, restore the terminal, remove the FIFOs, end

Nothing happens at import and no thread exists before ``main``: so a forked process that has imported
everything may call it.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import FrameType

from tmax_pipes.inotify import IN_MODIFY, Inotify
from tmax_pipes.messages import PROTOCOL, Done, Failed, Hello, Run, Who
from tmax_pipes.proc_stat import start_ticks
from tmax_workers import bare_restart, descendants, faults, signal_masks, spill
from tmax_workers.cancel import InterruptGate
from tmax_workers.capture import Capture
from tmax_workers.coordinator import Coordinator
from tmax_workers.descendants import adopt_orphans
from tmax_workers.epoll_loop import EpollLoop
from tmax_workers.iothread import IoThread, header
from tmax_workers.isolation import Isolation
from tmax_workers.main_thread_jobs import MainJobs
from tmax_workers.options import Options
from tmax_workers.pane import Pane, is_utf8_locale
from tmax_workers.preload import Preloaded, preload
from tmax_workers.process_context import NeedsBareProcess, ProcessContext
from tmax_workers.proctitle import LIFE_VARIABLE
from tmax_workers.stale import sources
from tmax_workers.state_machine import WorkerStateMachine
from tmax_workers.task_environment import TaskEnvironment
from tmax_workers.terminal import Terminal
from tmax_workers.threads import enforce, env_for
from tmax_workers.worker_events import ExitWorker

INTERNAL_ERROR = 70
"""Exit code of an internal error; the controller sees a death and redelivers."""
SLOW_S = 0.05
"""After a task that took longer, check again whether code changed while it ran."""


def main(options: Options) -> int:
    """Run a worker until it has to leave, and end the process; returns 1 only when it cannot start."""
    try:
        worker = Worker(options)
    except OSError as error:
        print(f"tmax worker {options.life}: cannot start: {error}", file=sys.stderr)
        return 1
    worker.live()
    return 0


class Worker:
    """Creates and connects the parts of this process; main thread only."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._threads = options.threads
        for folder in (options.state, options.logs, options.blobs):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        _close_descriptors_on_exec()
        descendants.adopt_orphans()
        self._forking = threading.local()
        self._is_forked = False
        self._signal_fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._gate = InterruptGate()
        self._set_signals()
        self._terminal = Terminal()
        self._pane = Pane(self._terminal.out, unicode=is_utf8_locale(os.environ))
        self._inotify = Inotify()
        self._capture = Capture(options.logs, options.life, self._watch)
        self._loop = EpollLoop()
        self._sources = sources()
        self._preloaded = self._preload()
        self._environment = TaskEnvironment(self._set_wakeup, options.blobs)
        self._isolation = Isolation(self._environment.keep, self._gate.suspended)
        self._coordinator = Coordinator(self._new_state())
        self._context = ProcessContext(options.blobs)
        self._jobs = MainJobs(
            options.blobs, self._capture, self._gate, self._environment, self._context, self._sources, self._isolation, self._start_bare
        )
        self._io = IoThread(
            coordinator=self._coordinator,
            loop=self._loop,
            inotify=self._inotify,
            capture=self._capture,
            terminal=self._terminal,
            pane=self._pane,
            gate=self._gate,
            sources=self._sources,
            signal_fd=self._signal_fds[0],
            on_who=self._on_who,
            on_command=self._before_command,
            on_keep=self._spill_results,
            on_exit=self._leave,
            logs=options.logs,
            blobs=options.blobs,
        )

    def live(self) -> None:
        """Run tasks until the worker has to leave, then end the process."""
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_forked_child)
        self._io.start(self._options.rt, self._options.life, self._options.control, self._options.connections)
        threading.Thread(target=self._run_io, name="tmax-io", daemon=True).start()
        self._adopt_orphans()
        try:
            self._work()
        except BaseException:
            self._exit_on_internal_error()
        # Run atexit functions; do not wait for threads that tasks left behind.
        atexit._run_exitfuncs()  # noqa: SLF001  # sys.exit would wait for those threads first
        descendants.end_all(spare=descendants.helpers())
        os._exit(0)

    def _start_bare(self, needs: NeedsBareProcess) -> None:
        """Restart this process without preloaded modules; returns only when none were preloaded."""
        if not self._options.preload:
            return
        with self._coordinator.lock:  # flush what was sent, and send nothing more
            self._coordinator.flush()
            self._spill_results()
            self._environment.put_own_limits_back()
            self._environment.go_home()
            bare_restart.restart_bare(self._options, self._io.connections, self._environment.own_environment, self._terminal.out)

    # -- start -------------------------------------------------------------------------------------

    def _preload(self) -> Preloaded:
        options = self._options
        self._pane.show_line(f"tmax worker, life {options.life}: importing {', '.join(options.preload) or 'nothing'}")
        preloaded = preload(options.preload, options.threads)
        for missing in preloaded.missing:
            self._pane.show_line(f"not imported: {missing}")
        self._sources.note()
        # Imported objects stay, so exclude them from later collections.
        gc.collect()
        gc.freeze()
        return preloaded

    def _new_state(self) -> WorkerStateMachine:
        pid, now = os.getpid(), time.monotonic()
        greeting = Hello(
            life=self._options.life,
            pid=pid,
            ticks=start_ticks(pid),
            protocol=PROTOCOL,
            python=".".join(map(str, sys.version_info[:3])),
            missing=self._preloaded.missing,
        )
        state = WorkerStateMachine(greeting, now=now, offset_s=time.time() - now, orphan_ttl_s=self._options.orphan_ttl_s)
        if self._options.connections:  # restarted (``bare_restart.py``): its earlier results may not be stored
            state.keep(spill.read(self._options.state, self._options.life))
        return state

    def _watch(self, path: str) -> None:
        self._inotify.watch(path, IN_MODIFY)

    def _set_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH):
            signal.signal(number, _noted)  # a Python handler is needed for a byte on the wakeup descriptor
        signal.signal(signal.SIGUSR1, self._gate.on_signal)
        # A closed pane must not end a task, and restoring terminal modes must not stop this process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        self._set_wakeup()

    def _set_wakeup(self) -> None:
        signal.set_wakeup_fd(self._signal_fds[1], warn_on_full_buffer=False)

    # -- main thread -------------------------------------------------------------------------------

    def _adopt_orphans(self) -> None:
        try:
            adopt_orphans()
        except OSError:
            pass  # orphans are then ended with the worker at the latest
        self._isolation.rebase()  # now the IO thread exists

    def _work(self) -> None:
        faults.enable(self._pane.fd if self._pane.fd >= 0 else 2)
        inbox, coordinator, jobs = self._coordinator.inbox, self._coordinator, self._jobs
        while (work := inbox.get()) is not None:
            if callable(work):
                work()
                continue
            run: Run | None = work
            follows = False
            while run is not None:
                outcome, printed = jobs.run(run, follows=follows)
                if not isinstance(outcome, Done) or outcome.form == "none":
                    self._io.take_signals()
                stale = outcome.report.duration_s > SLOW_S and bool(self._sources.changed())
                run = coordinator.ended(outcome, printed.unshown, stale=stale, used_up=self._isolation.used_up)
                follows = True
                self._do_chores()

    def _do_chores(self) -> None:
        """Call the functions in the inbox; between two consecutive tasks it holds nothing else."""
        inbox = self._coordinator.inbox
        while not inbox.empty():
            work = inbox.get()
            if not callable(work):
                inbox.put(work)
                return
            work()

    # -- IO thread ---------------------------------------------------------------------------------

    def _run_io(self) -> None:
        signal_masks.block_all_signals()
        try:
            self._io.run()
        except BaseException:
            self._exit_on_internal_error()

    def _exit_on_internal_error(self) -> None:
        """Print the traceback and exit: without one of its threads a worker would hang.  The controller redelivers."""
        self._pane.write(traceback.format_exc().encode())
        os._exit(INTERNAL_ERROR)

    def _on_who(self, who: Who) -> dict[bytes, bytes]:
        """A controller sent the worker's name: show it in the pane; return the worker's variables for shell jobs."""
        threads = who.threads or self._threads
        # By the engine's mark, if it set one, the worker's processes are found and ended after its death.
        mark = os.environb.get(LIFE_VARIABLE) or b"%d" % self._options.life
        marks = {b"TMAX_WORKER": who.worker.encode(), b"TMAX_SWARM": who.swarm.encode(), LIFE_VARIABLE: mark}
        self._coordinator.inbox.put(self._adoption(marks, threads))
        self._pane.show_line(header(who, self._options.life, self._preloaded.modules, threads))
        return marks | {name.encode(): value.encode() for name, value in env_for(threads).items()}

    def _adoption(self, marks: dict[bytes, bytes], threads: int) -> Callable[[], None]:
        def adopt() -> None:
            self._environment.adopt(marks)
            if threads != self._threads:
                # On the main thread, because OpenMP keeps the count for each thread.
                self._threads = threads
                enforce(threads)
                self._environment.adopt({name.encode(): value.encode() for name, value in env_for(threads).items()})
            self._isolation.rebase()

        return adopt

    def _before_command(self) -> Mapping[bytes, bytes]:
        """On the IO thread, while no task runs: restore the worker's own limits for a command and its log; return the worker's variables."""
        self._environment.put_own_limits_back()
        return self._environment.own_environment

    def _spill_results(self) -> None:
        """Write the results that are not ``Stored`` to a file."""
        results = [one for one in self._coordinator.state.link.to_resend() if isinstance(one, (Done, Failed))]
        if results:
            self._environment.put_own_limits_back()  # the last task's file size limit may be too low
            try:
                spill.write(self._options.state, self._options.life, results)
            except OSError as error:
                self._pane.show_line(f"{len(results)} results that were not stored are lost: {error}")

    def _leave(self, order: ExitWorker) -> None:
        self._spill_results()
        if order.kill:
            _kill_process_group()
        if order.signal:
            _end_by(order.signal)
        self._coordinator.inbox.put(None)

    # -- forked children of tasks ------------------------------------------------------------------

    def _before_fork(self) -> None:
        # Until the child resets the wakeup descriptor, its signals would arrive here as ours.
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def _after_fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.mask)

    def _in_forked_child(self) -> None:
        try:
            if not self._is_forked:  # in a child's own children these numbers may be other files
                self._is_forked = True
                self._release_worker()
        finally:
            self._after_fork()

    def _release_worker(self) -> None:
        signal.set_wakeup_fd(-1)
        ours = (_noted, self._gate.on_signal)
        for number in (signal.SIGTERM, signal.SIGWINCH, signal.SIGUSR1, signal.SIGINT):
            if signal.getsignal(number) in ours:  # a task's own handler stays in the child
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        self._io.close_in_child()
        for fd in (*self._signal_fds, self._coordinator.wake_fd):
            os.close(fd)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has woken the IO thread."""


def _close_descriptors_on_exec() -> None:
    """Keep inherited descriptors above 2 from the programs that tasks start."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # the descriptor of the listing itself


def _end_by(number: int) -> None:
    """End by this signal's default action, whatever its handler is.

    By libc: Python sets handlers on the main thread only, which may run a task.  The controller ends what tasks left
    running, as after any death.
    """
    import ctypes

    ctypes.CDLL(None).signal(number, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(INTERNAL_ERROR)


def _kill_process_group() -> None:
    """Kill this process, whose task does not end, and the processes of its group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
