"""System calls that never block, made without releasing the interpreter lock.

The standard library releases the lock around each call.  A second thread with work then takes it, and the caller waits until
that thread sleeps: 7 us for an ``os.getcwd`` of 0.5 us, measured in a client whose reader thread receives results.
Do not use them on a file that can block.
"""

from __future__ import annotations

import ctypes
import fcntl
from _locale import LC_ALL

_libc = ctypes.PyDLL(None)
_PATH_BYTES = 4096
_SEEK_END = 2

_getcwd = _libc.getcwd
_getcwd.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_getcwd.restype = ctypes.c_void_p
_fcntl = _libc.fcntl
_fcntl.argtypes = (ctypes.c_int, ctypes.c_int)
_lseek = _libc.lseek
_lseek.argtypes = (ctypes.c_int, ctypes.c_ssize_t, ctypes.c_int)
_lseek.restype = ctypes.c_ssize_t
_setlocale = _libc.setlocale
_setlocale.argtypes = (ctypes.c_int, ctypes.c_char_p)
_setlocale.restype = ctypes.c_char_p
_F_GETSIG = fcntl.F_GETSIG

_path = ctypes.create_string_buffer(_PATH_BYTES)
_path_at = ctypes.addressof(_path)


def working_folder() -> bytes:
    """Return the path of the working directory; empty where the kernel has none (it was removed, or is too long)."""
    # The lock is held, so no other thread can overwrite the buffer before the copy.
    return _path.value if _getcwd(_path_at, _PATH_BYTES) else b""


def locale_now() -> bytes:
    """Return the whole locale as ``setlocale(LC_ALL, NULL)`` names it."""
    return _setlocale(LC_ALL, None) or b"C"


def set_locale(name: bytes) -> None:
    """Set the whole locale to what ``locale_now`` returned.  Raises OSError for a locale that no longer exists."""
    if _setlocale(LC_ALL, name) is None:
        raise OSError(f"there is no locale {name!r}")


def io_signal(fd: int) -> int:
    """Return what ``F_SETSIG`` set on this open file; -1 for a closed descriptor."""
    return int(_fcntl(fd, _F_GETSIG))


def seek_to_end(fd: int) -> int:
    """Move to the end of a regular file and return its size; -1 when that is impossible."""
    return int(_lseek(fd, 0, _SEEK_END))
