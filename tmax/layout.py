"""The paths of a swarm's files.  The CLI's fast path imports it, so it imports little (``dataclasses`` would double its start).

    state    $XDG_STATE_HOME/tmax/SWARM     survives a reboot
        tmax.db  tmax.db.snapshot  created  ballast  controller.lock  init.lock  place  settings.json  controller.log  logs/  blobs/
    runtime  $XDG_RUNTIME_DIR/tmax/SWARM    removed at reboot; its path is written in state/place
        control.sock  tmux.sock  tmux.conf  workers/  zygote.sock

The state folder records the path of the runtime folder: otherwise a login without XDG_RUNTIME_DIR would use a
second runtime folder and start a second controller on one store.
"""

from __future__ import annotations

import os
import stat

from tmax.errors import FolderError, UsageError

SUN_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""

_REMOVED_TRIES = 5
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_-")


def check_name(name: str, what: str = "swarm") -> str:
    """Return ``name`` when it may be part of a path and of a tmux session's name; raise UsageError otherwise."""
    if not name or len(name) > 32 or name[0] not in _NAME_FIRST or not _NAME_REST.issuperset(name):
        raise UsageError(
            f"{what} name {name!r} is not allowed",
            hint="use 1 to 32 lower-case letters, digits, '_' and '-', starting with a letter or digit",
        )
    return name


class Layout:
    """The folders of one swarm; every path in them is derived here.  Immutable."""

    __slots__ = ("runtime", "state", "swarm")

    def __init__(self, swarm: str, state: str, runtime: str) -> None:
        self.swarm = swarm
        self.state = state
        self.runtime = runtime

    def __repr__(self) -> str:
        return f"Layout({self.swarm!r}, {self.state!r}, {self.runtime!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self.swarm, self.state, self.runtime) == (other.swarm, other.state, other.runtime)

    def __hash__(self) -> int:
        return hash((self.swarm, self.state, self.runtime))

    @property
    def database(self) -> str:
        """The store."""
        return f"{self.state}/tmax.db"

    @property
    def created(self) -> str:
        """Records that a store was made, and its least generation; without it a missing store would be taken for a first start."""
        return f"{self.state}/created"

    @property
    def snapshot(self) -> str:
        """A full copy of the store, made at a clean ``down``."""
        return f"{self.state}/tmax.db.snapshot"

    @property
    def ballast(self) -> str:
        """Space reserved for a full disk."""
        return f"{self.state}/ballast"

    @property
    def lock(self) -> str:
        """Locked (flock) by the controller until its end."""
        return f"{self.state}/controller.lock"

    @property
    def init_lock(self) -> str:
        """Locked by one ``init`` at a time."""
        return f"{self.state}/init.lock"

    @property
    def place(self) -> str:
        """Text file that names the runtime folder in use."""
        return f"{self.state}/place"

    @property
    def settings(self) -> str:
        """The validated settings of the last ``init``, as JSON."""
        return f"{self.state}/settings.json"

    @property
    def log(self) -> str:
        """The controller's log."""
        return f"{self.state}/controller.log"

    @property
    def logs(self) -> str:
        """One file for each task that printed more than its row holds."""
        return f"{self.state}/logs"

    @property
    def worker_logs(self) -> str:
        """What worker processes print, one file a life; only engines without terminals keep it."""
        return f"{self.state}/worker-logs"

    @property
    def blobs(self) -> str:
        """Bodies over 64 KiB, named by digest."""
        return f"{self.state}/blobs"

    @property
    def control(self) -> str:
        """The control socket."""
        return f"{self.runtime}/control.sock"

    @property
    def tmux(self) -> str:
        """The swarm's own tmux server."""
        return f"{self.runtime}/tmux.sock"

    @property
    def tmux_conf(self) -> str:
        """The minimal tmux configuration of the swarm's server."""
        return f"{self.runtime}/tmux.conf"

    @property
    def workers(self) -> str:
        """FIFOs of the workers, and the records of where they are."""
        return f"{self.runtime}/workers"

    @property
    def zygote(self) -> str:
        """Socket of the process that forks workers."""
        return f"{self.runtime}/zygote.sock"


def state_root(env: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """Return the folder that holds every swarm's state folder."""
    base = env.get("XDG_STATE_HOME") or ""
    if not base.startswith("/"):
        base = f"{env.get('HOME') or os.path.expanduser('~')}/.local/state"
    return f"{base}/tmax"


def runtime_root(env: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """Return the folder that is to hold the runtime folders of new controllers."""
    base = env.get("XDG_RUNTIME_DIR") or ""
    return f"{base}/tmax" if base.startswith("/") else f"/tmp/tmax-{os.getuid()}"  # noqa: S108 - made with mode 0700, refused when it is not ours


def submitting_task(swarm: str) -> int:
    """Return the id of the task that this process belongs to, if it is a task of this swarm; else 0."""
    env = os.environ
    number = env.get("TMAX_TASK_ID", "")
    ours = env.get("TMAX_SWARM") == swarm and env.get("TMAX_LIFE", "").startswith(f"{swarm}:")
    return int(number) if ours and number.isascii() and number.isdigit() and len(number) < 19 else 0


def locate(swarm: str, env: dict[str, str] | os._Environ[str] = os.environ) -> Layout:
    """Return where a swarm is: the recorded runtime folder when there is one, else where it would be made."""
    state = f"{state_root(env)}/{check_name(swarm)}"
    try:
        with open(f"{state}/place", "rb") as file:
            runtime = os.fsdecode(file.read(4096)).strip()
    except (FileNotFoundError, NotADirectoryError):
        runtime = ""
    except OSError as error:
        raise FolderError(state, f"cannot be read: {error.strerror}") from error
    if not runtime.startswith("/") or "\0" in runtime or "\n" in runtime:
        runtime = ""  # not a valid record; a controller that runs elsewhere still holds the lock
    return Layout(swarm, state, runtime or f"{runtime_root(env)}/{swarm}")


def private_folder(path: str) -> None:
    """Make ``path`` (and its parents) a folder of this user with mode 0700.  Raises FolderError, which names what is wrong.

    Another user's folder, a link, or a folder that others can write is refused, not repaired: on a shared host another
    user may have made it.  So is its parent, where that lies in a folder that every user can write (``/tmp/tmax-UID``):
    its owner could replace our folder at any time.
    """
    for tries_left in range(_REMOVED_TRIES, -1, -1):
        try:
            _make(path)
            found = os.lstat(path)
            break
        except OSError as error:
            # Missing: it was just removed (a logout, a cleaner of old files).
            if not isinstance(error, FileNotFoundError) or not tries_left:
                raise FolderError(path, f"cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise FolderError(path, "is not a folder (a link is not accepted here)")
    if found.st_uid != os.geteuid():
        raise FolderError(path, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        raise FolderError(path, f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 700 {path}")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise FolderError(path, f"cannot be written (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 700 {path}")


def _make(path: str) -> None:
    above = os.path.dirname(path)
    _make_above(above)
    if _anybody_writes(os.path.dirname(above)):
        _check_above(above)
    try:
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # whatever our umask is
    except FileExistsError:
        pass


def _make_above(path: str) -> None:
    if path and not os.path.isdir(path):
        _make_above(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):  # another process made it meanwhile
                raise


def _anybody_writes(folder: str) -> bool:
    return bool(os.stat(folder).st_mode & stat.S_IWOTH)


def _check_above(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise FolderError(path, "is not a folder (a link is not accepted here)")
    if found.st_uid not in {os.geteuid(), 0}:
        raise FolderError(path, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o022:
        raise FolderError(path, f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 700 {path}")
