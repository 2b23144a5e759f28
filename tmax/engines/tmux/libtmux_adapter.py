"""tmux at the pace of people: is it there, which version, what sessions, how to attach.  The only file that imports libtmux.

::

    attach_command --> outside tmux:            this process becomes `tmux attach`
                   --> in the user's own tmux:  a new window there that attaches, and one line about the doubled prefix
                   --> in the swarm's tmux:     the client is switched

libtmux has no time limit of its own, and a client of a stopped server waits for ever: it is called in a thread and waited
for ``LIMIT_S``.  Nothing here is on the way of ``init``, or called more often than people type (``control_mode.py`` is for that).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tmax.engines.tmux import tmux_version
from tmax.errors import TmuxError
from tmax.layout import Layout

T = TypeVar("T")

LIMIT_S = 2.0
_SESSION = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PANE = re.compile(r"%[0-9]+")
_NESTED = "opened in a new window of your tmux; keys for the worker's tmux need its prefix twice: C-b C-b d detaches"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachCommand:
    """What to run to look at a session."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    replaces: bool
    """True: exec it, it takes over this terminal.  False: run it, then print ``notice``; it returns at once."""
    notice: str = ""


def version() -> str:
    """Return what ``tmux -V`` says, without the word tmux: ``3.3a``, ``next-3.5``.  Raises TmuxError when it is missing or hangs."""
    if shutil.which("tmux") is None:
        raise TmuxError("tmux is not installed", hint=tmux_version.INSTALL_HINT)
    try:
        done = subprocess.run(["tmux", "-V"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TmuxError(f"tmux -V failed: {error}", hint=tmux_version.INSTALL_HINT) from error
    if done.returncode != 0:
        raise TmuxError(f"tmux -V failed: {done.stderr.strip()}", hint=tmux_version.INSTALL_HINT)
    return done.stdout.strip().removeprefix("tmux ")


def check() -> str:
    """Return the version of tmux; raises TmuxError, with what to type, when it is missing or too old."""
    found = version()
    tmux_version.require(found)
    return found


def server_version(layout: Layout) -> str:
    """Return the version of the swarm's running tmux server, empty when none runs.

    It differs from ``version()`` after an upgrade under a running swarm: then clients may not get on with the server.
    """
    lines = _query(layout, "display-message", "-p", "#{version}")
    return lines[0] if lines else ""


def sessions(layout: Layout) -> list[str]:
    """Return the names of the sessions on the swarm's tmux server, sorted; none when it does not run.  Raises TmuxError when it hangs."""
    return sorted(_query(layout, "list-sessions", "-F", "#{session_name}"))


def _query(layout: Layout, *command: str) -> list[str]:
    """Return the lines tmux answers; none when there is no server."""

    def query() -> list[str]:
        import libtmux

        return list(libtmux.Server(socket_path=layout.tmux).cmd(*command).stdout)

    return _within(query) if os.path.exists(layout.tmux) else []


def _within(call: Callable[[], T]) -> T:
    """Return ``call()``, made in a thread; raises TmuxError when it fails or takes longer than LIMIT_S."""
    results: list[T] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # whatever libtmux raises is raised in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if failures:
        raise TmuxError(f"tmux did not answer: {failures[0]}", hint="see: tmax doctor") from failures[0]
    if not results:
        raise TmuxError(f"tmux did not answer in {LIMIT_S:g} s", hint="its server may be stopped; see: tmax doctor")
    return results[0]


def attach_command(
    layout: Layout, session: str, *, pane: str = "", read_only: bool = False, env: Mapping[str, str] = os.environ
) -> AttachCommand:
    """Return how to look at ``session`` (or the session of ``pane``, which a renaming cannot hide) from where ``env`` says we are.

    Raises TmuxError for a name that is none of ours: a target is a small language of tmux's own.
    """
    if not _SESSION.fullmatch(session) or (pane and not _PANE.fullmatch(pane)):
        raise TmuxError(f"{pane or session!r} is no session of tmax")
    target = pane or f"={session}:"
    inside = env.get("TMUX", "").rpartition(",")[0].rpartition(",")[0]
    if inside and os.path.realpath(inside) == os.path.realpath(layout.tmux):
        return AttachCommand(argv=("tmux", "-S", layout.tmux, "switch-client", "-t", target), env=env, replaces=False)
    # -u: the panes speak UTF-8, also when the locale of this terminal says nothing about it (as in most containers).
    attach = ("tmux", "-u", "-S", layout.tmux, "attach-session", *(["-r"] if read_only else []), "-t", target)
    if inside:
        window = ("tmux", "new-window", "-n", f"tmax:{session}", "--", "env", "-u", "TMUX", "-u", "TMUX_PANE", *attach)
        return AttachCommand(argv=window, env=env, replaces=False, notice=_NESTED)
    clean = {key: value for key, value in env.items() if not key.startswith("TMUX")}
    return AttachCommand(argv=attach, env=clean, replaces=True)


def attach(command: AttachCommand) -> str:
    """Carry it out.  Replaces this process, or returns the notice to print.  Raises TmuxError when tmux refuses."""
    if shutil.which("tmux") is None:
        raise TmuxError("tmux is not installed", hint=tmux_version.INSTALL_HINT)
    if command.replaces:
        os.execvpe(command.argv[0], command.argv, dict(command.env))
    try:
        done = subprocess.run(command.argv, env=dict(command.env), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TmuxError(f"tmux did not answer in {LIMIT_S:g} s", hint="see: tmax doctor") from None
    if done.returncode != 0:
        raise TmuxError(f"tmux refused: {done.stderr.strip()}", hint="see: tmax doctor")
    return command.notice
