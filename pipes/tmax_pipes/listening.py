"""A Unix socket whose path appears only once it listens.

bind at a temporary name --> 0600 --> listen --> rename to the path

``bind`` makes the name, and a client that connects before ``listen`` is refused as if the server had ended: a controller
that connected in between started a second zygote beside a live one.
"""

from __future__ import annotations

import os
import socket


def listen_at(path: str, backlog: int) -> socket.socket:
    """Return a socket that listens at ``path`` (0600), and replaces what was there.

    ``getsockname`` returns the temporary name, not ``path``.  Raises OSError; then ``path`` is unchanged.
    """
    # Not longer than the path: a socket's name is limited to 107 bytes.
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
