"""The configuration of the swarm's own tmux server: minimal, and nothing in it that a task's output could steer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tmax.core.settings import TmuxSettings
from tmax.engines.tmux.control_mode import quote
from tmax.layout import Layout

_TERMINFO = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo", "/usr/local/share/terminfo")

_FIXED = """\
# Written by tmax at each start of the tmux server; changes here are lost.  Your own: tmux.config in tmax's configuration.
set -g exit-empty off
set -g exit-unattached off
set -g destroy-unattached off
set -g remain-on-exit on
set -g update-environment ""
set -g default-size 200x50
set -g escape-time 10
set -g set-clipboard off
set -gq allow-passthrough off
set -g automatic-rename off
set -g allow-rename off
set -g set-titles off
set -g bell-action none
set -g monitor-activity off
set -g status-interval 0
set -g status-left-length 60
set -g status-right "detach: #{prefix} d "
set -g window-status-format " #I:#{=20:window_name} "
set -g window-status-current-format " #I:#{=20:window_name} "
"""


def has_terminfo(name: str, folders: Iterable[str]) -> bool:
    """Whether one of these terminfo folders describes the terminal ``name``."""
    return any(Path(folder, part, name).exists() for folder in folders for part in (name[0], f"{ord(name[0]):x}"))


def _folders() -> list[str]:
    own = [os.environ.get("TERMINFO", ""), f"{os.environ.get('HOME', '')}/.terminfo"]
    return [folder for folder in (*own, *_TERMINFO) if folder.startswith("/")]


def render(settings: TmuxSettings, swarm: str, terminal: str) -> str:
    """Return the text of the configuration; the user's own file, if any, is read last and wins."""
    lines = [
        _FIXED.rstrip(),
        f"set -g default-terminal {terminal}",
        f"set -g history-limit {settings.history_limit}",
        f"set -g mouse {'on' if settings.mouse else 'off'}",
        f"set -g status-left '[{swarm}] #{{=32:session_name}} '",
    ]
    if settings.config:
        lines.append(f"source-file -q {quote(os.path.abspath(os.path.expanduser(settings.config)))}")
    return "\n".join(lines) + "\n"


def write(layout: Layout, settings: TmuxSettings) -> None:
    """Write the configuration (0600) into the runtime folder; raises TmuxError when the user's file has an impossible name."""
    terminal = "tmux-256color" if has_terminfo("tmux-256color", _folders()) else "screen-256color"
    text = render(settings, layout.swarm, terminal)
    fd = os.open(layout.tmux_conf, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
