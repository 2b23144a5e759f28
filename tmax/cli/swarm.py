"""The verbs about the swarm, as typer shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from tmax.cli import arguments, down, status
from tmax.cli import init as init_verb
from tmax.cli.main import Dry, verb
from tmax.cli.output import Common, out, value

Workers = Annotated[
    int | None, typer.Option("--workers", "-n", metavar="N", parser=arguments.count, help="Workers; 0: one a core [default: setting].")
]
Pool = Annotated[
    int | None, typer.Option("--pool", metavar="K", parser=arguments.count, help="Warm workers kept beside them [default: setting].")
]
Preload = Annotated[
    str | None, typer.Option("--preload", metavar="M[,M]", help="Modules imported before work arrives, for example numpy,torch.")
]
Python = Annotated[str | None, typer.Option("--python", metavar="P", help="Interpreter of the workers [default: this one].")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="E", help="What carries the workers: tmux, or process (plain processes, no tmux) [default: setting, tmux]."
    ),
]
Attach = Annotated[bool, typer.Option("--attach", help="Attach to the dashboard afterwards.")]


@verb(
    "init",
    examples=(
        ("tmax init", "one worker a core"),
        ("tmax init -n 8 --preload numpy,torch", "eight, with torch imported before the first task"),
        ("tmax init --swarm night -n 2", "a second swarm beside the first"),
        ("tmax init --engine process", "without tmux: in a container, in CI"),
    ),
)
def _init(
    common: Common,
    workers: Workers = None,
    pool: Pool = None,
    preload: Preload = None,
    python: Python = None,
    engine: Engine = None,
    attach: Attach = False,
) -> int:
    """Start a swarm and return when its workers are ready.  Again is harmless."""
    return init_verb.init(common, workers=workers, pool=pool, preload=preload, python=python, engine=engine, attach=attach)


@verb("up", examples=(("tmax up -n 4", "the same as tmax init -n 4"),))
def _up(
    common: Common,
    workers: Workers = None,
    pool: Pool = None,
    preload: Preload = None,
    python: Python = None,
    engine: Engine = None,
    attach: Attach = False,
) -> int:
    """The same as init."""
    return init_verb.init(common, workers=workers, pool=pool, preload=preload, python=python, engine=engine, attach=attach)


@verb("down", examples=(("tmax down", "finish what runs, keep the queue"), ("tmax down --now", "end what runs, too")))
def _down(
    common: Common,
    now: Annotated[bool, typer.Option("--now", help="End running tasks instead of finishing them.")] = False,
    dry_run: Dry = False,
) -> int:
    """Take the swarm down.  The queue is kept; the next init goes on with it."""
    return down.down(common, now=now, dry_run=dry_run)


@verb("status", examples=(("tmax", "the same"), ("tmax status --json", "for programs")))
def _status(common: Common) -> int:
    """Show the swarm, its tasks and its workers."""
    return status.status(common)


@verb("workers", examples=(("tmax workers", "with session and pane"), ("tmax workers -q", "names only")))
def _workers(common: Common) -> int:
    """List the workers."""
    return status.workers(common)


@verb("hold", examples=(("tmax hold", "hand out no more tasks; what runs goes on"),))
def _hold(common: Common) -> int:
    """Stop handing out tasks until resume."""
    return _held(common, "hold")


@verb("resume", examples=(("tmax resume", "go on after hold, or after a reboot"),))
def _resume(common: Common) -> int:
    """Hand out tasks again."""
    return _held(common, "resume")


def _held(common: Common, word: str) -> int:
    from tmax.cli.ask import ask

    held = bool(ask(common.layout, word)["held"])
    if common.json:
        value({"schema_version": 1, "held": held})
    elif not common.quiet:
        out("the queue is held\n" if held else "the queue goes on\n")
    return 0
