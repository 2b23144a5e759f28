"""``tmux``: any tmux command on the swarm's own server."""

from __future__ import annotations

import os

from tmax.cli import output
from tmax.cli.declaration import ANY_WORDS, Verb
from tmax.cli.exec_tmux import exec_tmux
from tmax.errors import NoSwarm, NoTerminals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def tmux(common: output.Common, words: Sequence[str]) -> int:
    """Replace this process by ``tmux`` with these words, on the swarm's server.  Raises NoSwarm, NoTerminals, TmuxError."""
    if not os.path.exists(common.layout.tmux):
        if os.path.exists(common.layout.settings):
            from tmax.config import read  # imports pydantic; only for the error

            if read(common.layout.settings).swarm.engine != "tmux":
                raise NoTerminals
        raise NoSwarm(common.layout.swarm, "has no tmux server")
    return exec_tmux(["tmux", "-u", "-S", common.layout.tmux, *words])


VERB = Verb(
    "tmux",
    tmux,
    usage="-- [TMUX COMMAND ...]",
    words=ANY_WORDS,
    passes_on=True,
    help="Run a tmux command on the swarm's own tmux server.",
    examples=(("tmax tmux list-sessions", "the sessions of the swarm"), ("tmax tmux -- -V", "the version of tmux")),
)
