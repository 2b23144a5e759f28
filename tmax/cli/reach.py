"""``attach`` and ``tmux``: from here into the swarm's own tmux server."""

from __future__ import annotations

import os

from tmax.cli import output
from tmax.cli.ask import ask
from tmax.errors import NoSwarm, NoTerminals, NotFound, TmuxError, UsageError
from tmax.layout import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

OUTER_S = 2.0
"""How long the tmux that we are in may take to answer."""
MONITOR = "tmax"
"""The monitor session; what ``attach`` without a word means."""


def attach(common: output.Common, words: Sequence[str], *, read_only: bool = False) -> int:
    """Become ``tmux attach`` to a worker, a task's worker, or the dashboard; inside tmux, open a new window instead."""
    target = words[0] if words else "dashboard"
    place = _place(common, target)
    if common.json:
        output.value({"schema_version": output.SCHEMA_VERSION, **{key: one for key, one in place.items() if key != "ok"}})
        return 0
    if _tmux_socket():
        return _inside(common, place, read_only=read_only)
    where = place["pane"] or f"={place['session']}:"
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("attach needs a terminal", hint=f"type in one: tmux -S {place['tmux']} attach -t '{where}'")
    # -u: the panes speak UTF-8, also when the locale of this terminal says nothing about it.
    command = ["tmux", "-u", "-S", place["tmux"], "attach-session", *(["-r"] if read_only else []), "-t", where]
    return _become(command) if _terminal_is_known() else _try(command)


def _tmux_socket() -> str:
    """Return the socket of the tmux that we are in; empty when we are in none."""
    return os.environ.get("TMUX", "").rpartition(",")[0].rpartition(",")[0]


def _terminal_is_known() -> bool:
    """Return whether this terminal can be drawn on, as far as we know."""
    try:
        import curses

        curses.setupterm(fd=1)
        return curses.tigetstr("clear") is not None
    except ImportError:
        return True  # a Python without curses: tmux will say it itself
    except Exception:  # curses.error, which no except clause can name when its import failed
        return False


def _try(command: list[str]) -> int:
    """Run tmux in a terminal that it will perhaps refuse, so as to say why.  Raises TmuxError when it does."""
    import subprocess

    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise TmuxError("tmux is not installed", hint="install it, for example: sudo apt-get install tmux") from error
    if done.returncode != 0:
        term = os.environ.get("TERM", "")
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise TmuxError(
            f"tmux cannot use this terminal (TERM={term}): {why}", hint="name one that it knows, for example: TERM=xterm tmax attach"
        )
    return 0


def _place(common: output.Common, target: str) -> dict[str, Any]:
    layout = common.layout
    word = target
    if target.startswith("@"):
        from tmax.cli.ends import ids_of

        word = str(ids_of(common, [target])[0])
    try:
        return ask(layout, "locate", target=word)
    except NotFound:
        task = _task_named(common, word)
        if task is None:
            raise
        return ask(layout, "locate", target=task)
    except NoSwarm:
        # Its sessions outlive a controller that was killed, and who wants to look need not start another.
        if word.isdigit() or not os.path.exists(layout.tmux):
            raise
        session = MONITOR if word == "dashboard" else check_name(word, "worker")
        _check_session(common, session)
        return {
            "session": session,
            "pane": "",
            "worker": "",
            "task": None,
            "tmux": layout.tmux,
        }


def _check_session(common: output.Common, session: str) -> None:
    """Raise NotFound when the swarm's tmux server has no such session, NoSwarm when it does not run.  Only tmux is there to be asked."""
    from tmax.engines.tmux.libtmux_adapter import sessions

    there = sessions(common.layout)
    if not there:
        raise NoSwarm(common.layout.swarm)
    if session not in there:
        raise NotFound(f"no session {session!r}, and no controller runs that could make it", hint=f"tmax tmux{common.flag} list-sessions")


def _task_named(common: output.Common, word: str) -> str | None:
    if word.isdigit():
        return None
    try:
        return str(ask(common.layout, "select", selectors=[word])["ids"][0])
    except NotFound:
        return None


def _become(command: list[str]) -> int:
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise TmuxError("tmux is not installed", hint="install it, for example: sudo apt-get install tmux") from error


def _inside(common: output.Common, place: dict[str, Any], *, read_only: bool) -> int:
    """We are in a tmux already (the person's own, or the swarm's): never nest silently."""
    from tmax.engines.tmux.libtmux_adapter import attach as carry_out
    from tmax.engines.tmux.libtmux_adapter import attach_command

    _check_outer()
    notice = carry_out(attach_command(common.layout, place["session"], pane=place["pane"], read_only=read_only))
    if notice:
        output.warn(notice)
    return 0


def _check_outer() -> None:
    """Raise TmuxError when the tmux that TMUX names cannot be asked: it has ended, or it is not ours."""
    import socket

    path = _tmux_socket()
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(OUTER_S)
            probe.connect(path)
    except PermissionError:
        why = "belongs to another user"
    except TimeoutError:
        why = "does not answer"
    except OSError:
        why = "does not run any more"
    else:
        return
    raise TmuxError(f"TMUX names a tmux server that {why}: {path}", hint="leave it out: env -u TMUX tmax attach")


def tmux(common: output.Common, words: Sequence[str]) -> int:
    """Become ``tmux`` with these words, on the swarm's own server."""
    if not os.path.exists(common.layout.tmux):
        if os.path.exists(common.layout.settings):
            from tmax.config import read

            if read(common.layout.settings).swarm.engine != "tmux":
                raise NoTerminals
        raise NoSwarm(common.layout.swarm, "has no tmux server")
    return _become(["tmux", "-u", "-S", common.layout.tmux, *words])
