"""Connects to the control socket, and refuses one that other users own or may use.

    lstat: a socket of our user, closed to others? --> connect --> peer of our user? --> a connected, blocking socket

Commands and long-lived programs both use this module, so that the check is written once.
It imports ``_socket`` instead of ``socket``, and no ``struct``, as every import delays a command.
"""

from __future__ import annotations

import _socket
import os
import stat
import sys

from tmax.errors import FolderError, NoSwarm, WaitTimedOut
from tmax.layout import SUN_PATH_BYTES, Layout


def dial(layout: Layout, limit_s: float) -> _socket.socket:
    """Return a connected, blocking socket to the swarm's controller, without a limit of its own.

    Raises NoSwarm when no controller listens, FolderError when other users may use the socket, WaitTimedOut when the
    connection is not accepted in ``limit_s`` (the queue of connections is full).
    """
    _check_ours(layout)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # Not settimeout: connect would then fail at once on a full queue instead of waiting.
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval(limit_s))
        sock.connect(layout.control)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval(0))
        # struct ucred: pid, uid, gid
        uid = int.from_bytes(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if uid != os.geteuid():
            raise FolderError(layout.control, f"is answered by another user (uid {uid})")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise NoSwarm(layout.swarm) from error
    except BlockingIOError as error:
        sock.close()
        raise WaitTimedOut(
            f"swarm {layout.swarm!r} does not take connections", hint="its controller may be stopped or overloaded: see tmax doctor"
        ) from error
    except BaseException:
        # Any exception, KeyboardInterrupt too: no other code holds this descriptor.
        sock.close()
        raise
    return sock


def timeval(seconds: float) -> bytes:
    """Return ``seconds`` as the kernel's ``struct timeval``; 0: no limit."""
    whole = int(seconds)
    return whole.to_bytes(8, sys.byteorder) + int((seconds - whole) * 1e6).to_bytes(8, sys.byteorder)


def _check_ours(layout: Layout) -> None:
    path = layout.control
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoSwarm(layout.swarm) from error
    except OSError as error:
        raise FolderError(path, f"cannot be reached: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise FolderError(path, "is not a socket")
    if found.st_uid != os.geteuid():
        raise FolderError(path, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        raise FolderError(path, f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 600 {path}")
    size_bytes = len(os.fsencode(path))
    if size_bytes > SUN_PATH_BYTES:
        raise FolderError(path, f"is too long for a socket ({size_bytes} bytes, at most {SUN_PATH_BYTES})")
