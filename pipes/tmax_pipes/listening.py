"""A Unix socket that is there only once it listens.

bind at a name of our own --> 0600 --> listen --> rename to the path

``bind`` alone makes the name, and a client that connects before ``listen`` is refused as by a server that has ended: a
controller that looked in between started a second zygote beside one that lived.
"""

from __future__ import annotations

import os
import socket


def listen_at(path: str, backlog: int) -> socket.socket:
    """Return a socket that listens at ``path`` (0600), in place of what was there.

    ``getsockname`` gives another name than ``path``: that of the moment before.  OSError when it is impossible; then ``path`` is as it was.
    """
    # Not longer than the path: a socket's name has at most 107 bytes.
    own = os.path.join(os.path.dirname(path), f".{os.getpid():x}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _unlink(own)
        listener.bind(own)
        try:
            os.chmod(own, 0o600)
            listener.listen(backlog)
            os.rename(own, path)
        except OSError:
            _unlink(own)
            raise
    except OSError:
        listener.close()
        raise
    return listener


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # the usual case
