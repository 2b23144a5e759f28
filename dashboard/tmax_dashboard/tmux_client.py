"""The tmux commands behind Enter and ``q``.

::

    inside the swarm's own server:  switch-client, detach-client     (the viewer moves, the app keeps running)
    anywhere else:                  attach-session, in this terminal (the app is suspended)
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Protocol

_LIMIT_S = 2.0


class TmuxViewer(Protocol):
    """The viewer's way from the dashboard to a worker's session, and out."""

    inside: bool
    """Whether the app's pane is on the swarm's tmux server."""

    def switch(self, session: str) -> str:
        """Move the viewing client to a session; return an error text, empty on success."""

    def attach(self, session: str) -> str:
        """Attach this terminal to a session until the user detaches; return an error text, empty on success."""

    def detach(self) -> str:
        """Detach the viewing client; return an error text, empty on success."""


class Tmux:
    """The swarm's tmux server at ``sock``, seen from a process with the environment ``env``."""

    def __init__(self, sock: str, env: Mapping[str, str]) -> None:
        self._tmux = ["tmux", "-S", sock]
        self._env = {name: value for name, value in env.items() if name not in {"TMUX", "TMUX_PANE"}}
        self._pane = env.get("TMUX_PANE", "")
        self._env_inside = dict(env)
        self.inside = bool(self._pane) and _same(sock, env.get("TMUX", "").rsplit(",", 2)[0])

    def switch(self, session: str) -> str:
        # Without -c tmux takes the client that last used the pane's session: the one that sent this key.
        return self._run("switch-client", "-t", f"={session}")

    def detach(self) -> str:
        return self._run("detach-client")

    def attach(self, session: str) -> str:
        # Without TMUX in the environment, because tmux refuses to attach inside another server.
        try:
            done = subprocess.run([*self._tmux, "attach-session", "-t", f"={session}"], env=self._env, check=False)
        except OSError as error:
            return f"tmux cannot be started: {error.strerror}"
        return "" if done.returncode == 0 else f"tmux could not attach to {session}"

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [*self._tmux, *arguments],
                env=self._env_inside,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return f"tmux did not answer in {_LIMIT_S:g} s"
        except OSError as error:
            return f"tmux cannot be started: {error.strerror}"
        return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or f"tmux {arguments[0]} failed"


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
