"""``attach`` and ``tmux``: from here into the swarm's own tmux server."""

from __future__ import annotations

import os

from tmax.cli import say
from tmax.cli.ask import ask
from tmax.errors import NoSwarm, NotFound, TmuxError, UsageError
from tmax.layout import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MONITOR = "tmax"
"""The monitor session; what ``attach`` without a word means."""


def attach(common: say.Common, words: Sequence[str], *, read_only: bool = False) -> int:
    """Become ``tmux attach`` to a worker, a task's worker, or the dashboard; inside tmux, open a new window instead."""
    target = words[0] if words else "dashboard"
    place = _place(common, target)
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, **{key: one for key, one in place.items() if key != "ok"}})
        return 0
    if os.environ.get("TMUX"):
        return _inside(common, place, read_only=read_only)
    where = place["pane"] or f"={place['session']}:"
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("attach needs a terminal", hint=f"type in one: tmux -S {place['tmux']} attach -t '{where}'")
    # -u: the panes speak UTF-8, also when the locale of this terminal says nothing about it.
    return _become(["tmux", "-u", "-S", place["tmux"], "attach-session", *(["-r"] if read_only else []), "-t", where])


def _place(common: say.Common, target: str) -> dict[str, Any]:
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
        return {
            "session": MONITOR if word == "dashboard" else check_name(word, "worker"),
            "pane": "",
            "worker": "",
            "task": None,
            "tmux": layout.tmux,
        }


def _task_named(common: say.Common, word: str) -> str | None:
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


def _inside(common: say.Common, place: dict[str, Any], *, read_only: bool) -> int:
    """We are in a tmux already (the person's own, or the swarm's): never nest silently."""
    from tmax.engines.tmux import attach as carry_out
    from tmax.engines.tmux import attach_command

    notice = carry_out(attach_command(common.layout, place["session"], pane=place["pane"], read_only=read_only))
    if notice:
        say.warn(notice)
    return 0


def tmux(common: say.Common, words: Sequence[str]) -> int:
    """Become ``tmux`` with these words, on the swarm's own server."""
    if not os.path.exists(common.layout.tmux):
        raise NoSwarm(common.layout.swarm, "has no tmux server")
    return _become(["tmux", "-u", "-S", common.layout.tmux, *words])
