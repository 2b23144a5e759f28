"""``attach``: show a worker, a task's worker, or the dashboard in this terminal."""

from __future__ import annotations

import os

from tmax.cli import output
from tmax.cli.declaration import OPTIONAL_WORD, Option, Verb
from tmax.cli.exec_tmux import exec_tmux, not_installed
from tmax.cli.request import request
from tmax.cli.task_ids import TASK_HELP, one_task_id
from tmax.errors import NoSwarm, NotFound, TmuxError, UsageError
from tmax.layout import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_OUTER_TIMEOUT_S = 2.0
"""Longest wait for the tmux server that this command runs in."""
_DASHBOARD = "dashboard"
_MONITOR_SESSION = "tmax"
"""The session that shows the dashboard."""


def attach(common: output.Common, words: Sequence[str], *, read_only: bool = False) -> int:
    """Replace this process by ``tmux attach``; inside tmux, open a new window instead.  Raises NotFound, NoSwarm, UsageError, TmuxError."""
    place = _locate(common, words[0] if words else _DASHBOARD)
    if common.json:
        output.write_json({"schema_version": output.SCHEMA_VERSION, **{key: one for key, one in place.items() if key != "ok"}})
        return 0
    if _tmux_socket():
        return _attach_inside_tmux(common, place, read_only=read_only)
    where = place["pane"] or f"={place['session']}:"
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("attach needs a terminal", hint=f"in a terminal: tmux -S {place['tmux']} attach -t '{where}'")
    # -u: the panes write UTF-8, whatever the locale of this terminal.
    command = ["tmux", "-u", "-S", place["tmux"], "attach-session", *(["-r"] if read_only else []), "-t", where]
    return exec_tmux(command) if _terminal_is_known() else _run_tmux(command)


def _tmux_socket() -> str:
    """Return the socket path of the tmux server that this command runs in; empty outside tmux."""
    return os.environ.get("TMUX", "").rpartition(",")[0].rpartition(",")[0]


def _terminal_is_known() -> bool:
    """Return False when terminfo has no entry for this terminal, or one without ``clear``, which tmux needs."""
    try:
        import curses

        curses.setupterm(fd=1)
        return curses.tigetstr("clear") is not None
    except ImportError:
        return True  # a Python without curses: tmux reports the error itself
    except Exception:  # curses.error, which an except clause cannot name when the import failed
        return False


def _run_tmux(command: list[str]) -> int:
    """Run tmux as a child, in a terminal that it may reject.  Raises TmuxError with the reason when it does."""
    import subprocess

    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise not_installed() from error
    if done.returncode != 0:
        term = os.environ.get("TERM", "")
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise TmuxError(
            f"tmux cannot use this terminal (TERM={term}): {why}",
            hint="set TERM to a terminal that tmux knows, for example: TERM=xterm tmax attach",
        )
    return 0


def _locate(common: output.Common, target: str) -> dict[str, Any]:
    """Return session, pane, worker, task and tmux socket of ``target``.  Raises NotFound, NoSwarm."""
    layout = common.layout
    word = str(one_task_id(layout, target)) if target.startswith("@") else target
    try:
        return request(layout, "locate", target=word)
    except NotFound as missing:
        if word.isdigit() or missing.message.endswith("has no session now"):
            raise  # neither a number nor the name of a worker can be the name of a task
    except NoSwarm as missing:
        return _locate_without_controller(common, word, missing)
    try:
        task = str(one_task_id(layout, word))
    except NotFound as missing:
        raise NotFound(f"no worker {word!r}, and {missing.message}", hint="tmax workers and tmax ps --all list them") from None
    return request(layout, "locate", target=task)


def _locate_without_controller(common: output.Common, word: str, missing: NoSwarm) -> dict[str, Any]:
    """Return the same for a session that has outlived its controller.  Raises ``missing`` when there can be none, NotFound."""
    layout = common.layout
    if word.isdigit() or not os.path.exists(layout.tmux):
        raise missing
    session = _MONITOR_SESSION if word == _DASHBOARD else check_name(word, "worker")
    _check_session(common, session)
    return {"session": session, "pane": "", "worker": "", "task": None, "tmux": layout.tmux}


def _check_session(common: output.Common, session: str) -> None:
    """Raise NotFound when the swarm's tmux server has no such session, NoSwarm when the server does not run."""
    from tmax.engines.tmux.libtmux_adapter import sessions

    names = sessions(common.layout)
    if not names:
        raise NoSwarm(common.layout.swarm)
    if session not in names:
        raise NotFound(
            f"no session {session!r}, and no controller is running that could create it", hint=f"tmax tmux{common.flag} list-sessions"
        )


def _attach_inside_tmux(common: output.Common, place: dict[str, Any], *, read_only: bool) -> int:
    """Open a new window in the user's own tmux, or switch the client inside the swarm's: attaching would nest tmux in tmux."""
    from tmax.engines.tmux.libtmux_adapter import attach as attach_in_tmux  # imports subprocess and more, needed only inside tmux
    from tmax.engines.tmux.libtmux_adapter import attach_command

    _check_outer_server()
    notice = attach_in_tmux(attach_command(common.layout, place["session"], pane=place["pane"], read_only=read_only))
    if notice:
        output.write_message(notice)
    return 0


def _check_outer_server() -> None:
    """Raise TmuxError when the tmux server that TMUX names cannot be reached."""
    import socket

    path = _tmux_socket()
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_OUTER_TIMEOUT_S)
            probe.connect(path)
    except PermissionError:
        why = "belongs to another user"
    except TimeoutError:
        why = "does not reply"
    except OSError:
        why = "is no longer running"
    else:
        return
    raise TmuxError(f"TMUX names a tmux server that {why}: {path}", hint="unset it: env -u TMUX tmax attach")


VERB = Verb(
    "attach",
    attach,
    usage="[WORKER|TASK|dashboard]",
    words=OPTIONAL_WORD,
    options=(Option("read_only", "-r", "--read-only", help="Show only: keys are not sent to the pane."),),
    help=f"""Attach to a worker, a task's worker, or the dashboard.

    C-b d detaches; the task keeps running.  Inside tmux a new window opens, where C-b C-b d detaches.

    {TASK_HELP}""",
    examples=(
        ("tmax attach", "the dashboard"),
        ("tmax attach w3", "worker w3; C-b d detaches"),
        ("tmax attach -r 41", "the worker that runs task 41, read-only"),
    ),
)
