"""Replacing this process by tmux."""

from __future__ import annotations

import os

from tmax.errors import TmuxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def exec_tmux(command: list[str]) -> NoReturn:
    """Replace this process by ``command``.  Raises TmuxError when tmux is not installed."""
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise not_installed() from error


def not_installed() -> TmuxError:
    """Return the error for a missing tmux."""
    return TmuxError("tmux is not installed", hint="install it, for example: sudo apt-get install tmux")
