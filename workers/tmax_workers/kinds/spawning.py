r"""Starts a program as its submitter's shell would, with environment, folder, umask and resource limits; explains failures to start.

::

    job + its SubmitterEnvironment --> Command --> umask and soft limits of this process, posix_spawn, both restored
                                             \-> a limit that would affect this process itself, or a hard one:
                                                  sh waits at a pipe, prlimit(its pid), sh execs the program

umask and limits belong to the whole process.  No task runs on the main thread during a shell job, so none sees the change.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from tmax_pipes import blobs
from tmax_pipes.jobs import Body, Limits, ShellJob, SubmitterEnvironment, decode_submitter_environment
from tmax_pipes.messages import Failure, Run
from tmax_pipes.pipe_errors import BlobError
from tmax_pipes.resource_limits import LIMITS, getrlimit, prlimit, setrlimit
from tmax_workers.proctitle import LIFE_VARIABLE
from tmax_workers.task_environment import USUAL_UMASK, change_folder
from tmax_workers.threads import VARIABLES
from tmax_workers.worker_errors import Refused

_PAGERS = (b"PAGER", b"GIT_PAGER", b"MANPAGER", b"SYSTEMD_PAGER")
_LONGEST_ARGUMENT = 128 * 1024
"""The kernel's MAX_ARG_STRLEN."""
_WAIT_FD = 3
_WAIT_SCRIPT = b'read -r _ <&3; exec 3<&-; unset _; exec "$@"'

# Python ignores the first two, the worker the third.  SIGHUP stays ignored: otherwise the end of the session's leader
# would kill its background processes.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU)

# Lowered in this process, even for a moment, they could kill it or keep it from spawning.
_OWN_DANGER = frozenset({LIMITS["RLIMIT_CPU"], LIMITS["RLIMIT_AS"], LIMITS["RLIMIT_DATA"], LIMITS["RLIMIT_NPROC"], LIMITS["RLIMIT_STACK"]})

DescriptorMap = Mapping[int, int | str]
"""Descriptors of the program: a descriptor of this process, or a path that the program opens."""


class NotStarted(Exception):
    """The program could not be started; ``failure`` has the reason."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellCommand:
    """A program with its complete process environment."""

    argv: tuple[bytes, ...]
    cwd: bytes
    env: dict[bytes, bytes]
    umask: int
    limits: Limits


def command_of(run: Run, ours: Mapping[bytes, bytes], own: Mapping[bytes, bytes], blob_folder: str) -> ShellCommand:
    """Return the command of a job: the job's fields precede its SubmitterEnvironment, which precedes ``own``, this worker's variables.  Raises Refused when the environment is missing."""
    job = run.job
    assert isinstance(job, ShellJob)
    shared = _shared(job.submitter_environment, blob_folder)
    umask = next((one for one in (job.umask, shared.umask) if one is not None), USUAL_UMASK)
    return ShellCommand(
        argv=job.argv,
        cwd=job.cwd or shared.cwd,
        env=_environment(run, job.env or shared.env, ours, own),
        umask=umask,
        limits={**shared.limits, **job.limits} if shared.limits else job.limits,
    )


def _shared(body: Body, blob_folder: str) -> SubmitterEnvironment:
    return _loaded(body, blob_folder) if body else _NONE


@lru_cache(maxsize=16)
def _loaded(body: Body, blob_folder: str) -> SubmitterEnvironment:
    try:
        return decode_submitter_environment(blobs.load(blob_folder, body))
    except (BlobError, ValueError) as error:
        raise Refused(f"the environment of its submitter cannot be read: {error}", "submit it again") from error


_NONE = SubmitterEnvironment()


def _environment(run: Run, given: Mapping[bytes, bytes], ours: Mapping[bytes, bytes], own: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The submitter's variables without those of its tmux, then the worker's; a thread count that the submitter chose stays."""
    job = run.job
    assert isinstance(job, ShellJob)
    own_choice = {name.encode() for name in VARIABLES} & given.keys()
    env = {name: value for name, value in (given or own).items() if not name.startswith(b"TMUX")}
    env |= {name: value for name, value in ours.items() if name not in own_choice}
    env[b"TMAX_TASK_ID"], env[b"TMAX_ATTEMPT"] = b"%d" % run.task, b"%d" % run.attempt
    if not job.split:
        # A pager would wait for a key for ever, on a terminal that may have no viewer.
        env |= dict.fromkeys((*_PAGERS, *(name for name in env if name.endswith(b"PAGER"))), b"cat")
    if job.keep_background:
        env.pop(LIFE_VARIABLE, None)  # the engine ends every process that carries it
    return env


# -- start -----------------------------------------------------------------------------------------


def start(command: ShellCommand, descriptors: DescriptorMap) -> int:
    """Start the command in its own session and return its pid.  Raises NotStarted."""
    home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if command.cwd:
            change_folder(command.cwd)
        return _start(command, _found(command.argv[0], command.env), descriptors)
    except Refused as refused:
        raise NotStarted(Failure("refused", refused.message, hint=refused.hint)) from refused
    except OSError as error:
        raise NotStarted(_not_started(command, error)) from error
    except (ValueError, IndexError) as error:
        # A NUL, a variable without a name, no command: every worker would fail on it.
        raise NotStarted(Failure("refused", f"cannot be started: {error}")) from error
    finally:
        os.fchdir(home)
        os.close(home)


def _start(command: ShellCommand, path: bytes, descriptors: DescriptorMap) -> int:
    before = os.umask(command.umask)
    lowered: Limits = {}
    try:
        soft, others = _differing(command.limits) if command.limits else ({}, {})
        if others:
            return _start_limited(command, path, descriptors, {**soft, **others})
        for number, (wanted, hard) in soft.items():
            lowered[number] = getrlimit(number)
            setrlimit(number, (wanted, hard))
        return _spawn_or_sh(path, command.argv, command.env, descriptors)
    finally:
        for number, limit in lowered.items():
            setrlimit(number, limit)
        os.umask(before)


def _differing(limits: Limits) -> tuple[Limits, Limits]:
    """Return the limits that this process may set for a moment, and those that only the program may have."""
    soft: Limits = {}
    others: Limits = {}
    may_raise = os.geteuid() == 0
    for number, (wanted_soft, wanted_hard) in limits.items():
        try:
            now_soft, now_hard = getrlimit(number)
        except ValueError:
            continue  # unknown to this kernel
        hard = wanted_hard if may_raise else _least(wanted_hard, now_hard)
        limit = _least(wanted_soft, hard), hard
        if limit == (now_soft, now_hard):
            continue
        (others if hard != now_hard or number in _OWN_DANGER else soft)[number] = limit
    return soft, others


def _least(one: int, other: int) -> int:
    """Return the lower limit; -1 means no limit."""
    return max(one, other) if -1 in (one, other) else min(one, other)


def _start_limited(command: ShellCommand, path: bytes, descriptors: DescriptorMap, limits: Limits) -> int:
    """Start it through a shell that waits until its limits are set."""
    _check_executable(path)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        # The shell searches PATH in the same way, and passes the program its name as given.
        target = command.argv[0] if b"/" not in command.argv[0] else path
        argv = (b"sh", b"-c", _WAIT_SCRIPT, b"sh", target, *command.argv[1:])
        pid = _spawn(b"/bin/sh", argv, command.env, {**descriptors, _WAIT_FD: read_end})
        try:
            _limit(pid, limits)
        except BaseException:
            os.kill(pid, signal.SIGKILL)  # before its input ends, or it would run without its limits
            os.waitpid(pid, 0)
            raise
        return pid
    finally:
        os.close(read_end)
        os.close(write_end)  # the shell waits for the end of its input


def _limit(pid: int, limits: Limits) -> None:
    for number, limit in limits.items():
        try:
            prlimit(pid, number, limit)
        except PermissionError:
            own_hard = getrlimit(number)[1]
            prlimit(pid, number, (_least(limit[0], own_hard), own_hard))


def _check_executable(path: bytes) -> None:
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, "command not found", path)
    if not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", path)


def _spawn_or_sh(path: bytes, argv: tuple[bytes, ...], env: Mapping[bytes, bytes], descriptors: DescriptorMap) -> int:
    try:
        return _spawn(path, argv, env, descriptors)
    except OSError as error:
        if error.errno != errno.ENOEXEC or _is_binary(path):
            raise
        # A script without a #! line: run it by sh, as every shell does.
        return _spawn(b"/bin/sh", (b"/bin/sh", path, *argv[1:]), env, descriptors)


def _spawn(path: bytes, argv: tuple[bytes, ...], env: Mapping[bytes, bytes], descriptors: DescriptorMap) -> int:
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for fd, end in descriptors.items():
        if isinstance(end, str):
            actions.append((os.POSIX_SPAWN_OPEN, fd, end, os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, end, fd))
    return os.posix_spawn(path, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS)


def _found(name: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """Return the file that ``name`` denotes on the submitter's PATH, as in a shell.  Raises FileNotFoundError, PermissionError."""
    if b"/" in name:
        return name
    blocked = b""
    for folder in env.get(b"PATH", os.defpath.encode()).split(b":"):
        path = (folder or b".") + b"/" + name
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            blocked = path
    if blocked:
        raise PermissionError(errno.EACCES, "Permission denied", blocked)
    raise FileNotFoundError(errno.ENOENT, "command not found", name)


# -- why not ---------------------------------------------------------------------------------------


def _not_started(command: ShellCommand, error: OSError) -> Failure:
    """Return the reason, with the exit code of a shell: 127 when it is missing, 126 when it cannot be run."""
    name = command.argv[0]
    shown = name.decode("utf-8", "backslashreplace")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _missing(command, shown)
    code = error.errno or 0
    why, hint = os.strerror(code), ""
    path = error.filename if isinstance(error.filename, bytes) and b"/" not in name else name
    if code == errno.E2BIG:
        why, hint = _too_big(command)
    elif os.path.isdir(path):
        why, hint = "it is a directory", "name a program in it"
    elif code == errno.EACCES and os.access(path, os.X_OK):
        hint = "its file system does not let programs run (noexec), or its interpreter may not be run"
    elif code == errno.EACCES:
        hint = f"chmod +x {shown}, or name its interpreter"
    elif code == errno.ENOEXEC:
        why, hint = "it is not a program for this machine", "check it with: file " + shown
    elif code == errno.ETXTBSY:
        why, hint = "it is open for writing", "run it when the writer has closed it"
    elif code in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        hint = "the machine cannot start one more process: see ulimit -u, free memory, and what else runs"
    return Failure("notfound", f"cannot run {shown}: {why}", exit_code=126, hint=hint)


def _missing(command: ShellCommand, shown: str) -> Failure:
    name = command.argv[0]
    if b"/" in name and os.path.exists(os.path.join(command.cwd, name)):
        interpreter = _interpreter(os.path.join(command.cwd, name))
        what = f"its interpreter {interpreter} is not there" if interpreter else "a file that it needs to start is not there"
        return Failure("notfound", f"cannot run {shown}: {what}", exit_code=127, hint=f"check the first line of {shown}")
    hint = "check the spelling, or give its whole path; the PATH is that of the shell that submitted"
    if len(command.argv) == 1 and (found := _shell_syntax(shown)):
        hint = f"{found} is for a shell to read: tmax run -- sh -c {_quoted(shown)}"
    return Failure("notfound", f"command not found: {shown}", exit_code=127, hint=hint)


def _shell_syntax(text: str) -> str:
    """Return the part of ``text`` that only a shell understands; empty: none."""
    for mark in ("&&", "||", "|", ";", ">", "<", "&", "$", "`", "*", "?", "~", "("):
        if mark in text:
            return mark
    if " " in text.strip():
        return "a line of several words"
    return "NAME=VALUE" if "=" in text else ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _interpreter(path: bytes) -> str:
    try:
        with open(path, "rb") as file:
            first = file.read(256).split(b"\n", 1)[0]
    except OSError:
        return ""
    parts = first[2:].split() if first.startswith(b"#!") else []
    return parts[0].decode("utf-8", "backslashreplace") if parts else ""


def _is_binary(path: bytes) -> bool:
    """Whether it is binary by the rule of shells: a NUL in the first line."""
    try:
        with open(path, "rb") as file:
            return b"\0" in file.read(80).split(b"\n", 1)[0]
    except OSError:
        return False


def _too_big(command: ShellCommand) -> tuple[str, str]:
    longest = max(map(len, command.argv))
    variable = max((len(key) + len(value) + 1 for key, value in command.env.items()), default=0)
    if max(longest, variable) >= _LONGEST_ARGUMENT:
        what = "one argument" if longest >= variable else "one variable of the environment"
        return (
            f"{what} has {max(longest, variable)} bytes, and the system takes at most {_LONGEST_ARGUMENT - 1}",
            "put it into a file, or give it on standard input",
        )
    size_bytes = sum(len(one) + 9 for one in command.argv) + sum(len(key) + len(value) + 10 for key, value in command.env.items())
    soft = command.limits.get(LIMITS["RLIMIT_STACK"], getrlimit(LIMITS["RLIMIT_STACK"]))[0]
    most = 6 * 1024 * 1024 if soft == -1 else max(_LONGEST_ARGUMENT, min(soft // 4, 6 * 1024 * 1024))
    return (
        f"arguments and environment have {size_bytes} bytes, and the system takes at most {most} (a quarter of ulimit -s)",
        "put them into a file, give them on standard input, or split them up as xargs does",
    )
