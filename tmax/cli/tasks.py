"""The verbs about tasks, as typer shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_type_hints

import typer

from tmax.cli import arguments, ends, kernel, logs, reach, run, status, submit
from tmax.cli.main import Dry, Words, verb
from tmax.cli.option import Option
from tmax.cli.output import Common
from tmax.cli.task_flags import TASK_FLAGS
from tmax.core.option_values import count, positive, seconds

Tasks = Annotated[list[str], typer.Argument(metavar="TASK", hidden=True)]


def given(**values: Any) -> dict[str, Any]:
    """Return the options that were given; 0 is a value, though it equals False."""
    return {name: value for name, value in values.items() if value is not None and value is not False}


def with_options(options: Iterable[Option]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return what gives ``function(..., **options)`` a parameter for each option, as typer reads it."""
    added = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if one.read else False,
            annotation=Annotated[
                Any if one.read else bool,
                typer.Option(*one.flags, help=one.help, metavar=one.metavar or None, parser=one.read),
            ],
        )
        for one in options
    ]

    def describe(function: Callable[..., int]) -> Callable[..., int]:
        own = [one for one in inspect.signature(function).parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # every function may have one
        hints = get_type_hints(function, include_extras=True)
        function.__annotations__ = {**hints, **{one.name: one.annotation for one in added}}
        return function

    return describe


@verb(
    "submit",
    "-- COMMAND ...",
    examples=(
        ("tmax submit -- python train.py --lr 0.1", "queue a command"),
        ("tmax submit --priority high --timeout 30m -- make", "before others, at most 30 minutes"),
        ("tmax submit --py math:hypot 3 4", "queue a function with JSON arguments"),
        ("id=$(tmax submit -q -- make)", "keep the id in a script"),
    ),
)
@with_options(arguments.SUBMIT)
def _submit(
    common: Common,
    words: Words = None,
    **options: Any,
) -> int:
    """Queue a command or a Python function and print its id.

    It runs where you are, with your environment, umask and limits, in a terminal that nobody need look at (so pagers are cat).
    """
    return submit.submit(common, words or [], **given(**options))


@verb(
    "run",
    "-- COMMAND ...",
    examples=(
        ("tmax run -- make test", "as if you had run it here; Ctrl-C cancels it"),
        ("sort names | tmax run -- uniq -c | less", "in a pipe, too"),
        ("tmax run --timeout 10m -- ./job", "ended after ten minutes (exit code 124)"),
        ("tmax run --py json:dumps '[1, 2]'", "call a function and print its result"),
    ),
)
@with_options(arguments.SUBMIT)
def _run(
    common: Common,
    words: Words = None,
    **options: Any,
) -> int:
    """Submit, show the output as it comes, and leave with the command's own exit code (128 + n for signal n).

    Standard input, output and error are yours.  The command has a terminal only where output and error both are one; its pagers are cat.
    Ctrl-C, TERM, HUP and QUIT cancel it.
    """
    return run.run(common, words or [], **given(**options))


@verb(
    "kernel",
    "NAME",
    examples=(
        ("tmax kernel matmul --n 4096 --device auto", "one product of 4096 x 4096 matrices"),
        ("tmax kernel eigvals --n 100 --batch 8", "eigenvalues of eight matrices"),
        ("tmax kernel reduce --n 100000000 --json", "the sum of 10^8 numbers, as JSON"),
    ),
)
@with_options(one for one in TASK_FLAGS if one.name in {"timeout_s", "priority"})
def _kernel(
    common: Common,
    kernel_name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    n: Annotated[int | None, typer.Option("--n", parser=positive, metavar="N", help="Size.")] = None,
    m: Annotated[int | None, typer.Option("--m", parser=positive, metavar="N", help="Rows, where they differ.")] = None,
    k: Annotated[int | None, typer.Option("--k", parser=positive, metavar="N", help="Inner size of a product.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", parser=positive, metavar="N", help="How many at once.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", parser=kernel.dtype, metavar="T", help="float64, float32, float16, bfloat16 [default: float64]."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", parser=kernel.device, metavar="D", help="auto, cpu, cuda or mps [default: auto].")
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", parser=kernel.backend, metavar="B", help="auto, numpy or torch [default: auto].")
    ] = None,
    repeat: Annotated[int | None, typer.Option("--repeat", parser=positive, metavar="K", help="Timed runs [default: 1].")] = None,
    seed: Annotated[int | None, typer.Option("--seed", parser=count, metavar="N", help="Of the inputs [default: 0].")] = None,
    **options: Any,
) -> int:
    """Run a numeric kernel (matmul, eigvals, reduce) on a worker and print what it took.

    The device is synchronised for the timing.  Ctrl-C, TERM, HUP and QUIT cancel it.
    """
    sizes = given(n=n, m=m, k=k, batch=batch)
    chosen = given(dtype=dtype, device=device, backend=backend, **options)
    return kernel.kernel(common, kernel_name, sizes, repeat=1 if repeat is None else repeat, seed=seed or 0, **chosen)


@verb(
    "wait",
    "TASK ...",
    examples=(
        ("tmax wait 7 9-12", "exit 0 when all succeeded, 1 when one did not"),
        ("tmax wait --timeout 10m @ || echo $?", "75: the time is over, the task goes on"),
    ),
)
def _wait(
    common: Common,
    words: Tasks,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="TIME", parser=seconds, help="Wait at most so long; then exit 75.")
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Return as soon as one did not succeed.")] = False,
    ignore_failures: Annotated[bool, typer.Option("--ignore-failures", help="Exit 0 also when one did not succeed.")] = False,
) -> int:
    """Wait until tasks have ended.  TASK: an id, a range (3-7), @ (the last), @~2 (two before it), or a name."""
    return ends.wait(common, words, timeout_s=timeout_s, fail_fast=fail_fast, ignore_failures=ignore_failures)


@verb("result", "TASK", examples=(("tmax result @", "the result of the last task"), ("tmax result 7 --json", "with its whole story")))
def _result(common: Common, word: Annotated[str, typer.Argument(metavar="TASK", hidden=True)]) -> int:
    """Print what a task returned; its traceback and exit 1 when it failed."""
    return ends.result(common, [word])


@verb(
    "logs",
    "TASK|WORKER",
    examples=(("tmax logs -f @", "follow the last task to its end"), ("tmax logs w2", "what the worker's pane shows")),
)
def _logs(
    common: Common,
    word: Annotated[str, typer.Argument(metavar="TASK|WORKER", hidden=True)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
) -> int:
    """Print what a task printed, while it runs or long after; or what a worker's pane shows."""
    return logs.logs(common, [word], follow=follow)


@verb("cancel", "TASK ...", examples=(("tmax cancel 7 9-12", "end these"), ("tmax cancel --dry-run train", "which task has this name?")))
def _cancel(common: Common, words: Tasks, dry_run: Dry = False) -> int:
    """End tasks: TERM (an exception, in Python), a grace, then KILL.  TASK: 7, 3-7, @ (the last), @~2, or a name."""
    return ends.cancel(common, words, dry_run=dry_run)


@verb("ps", examples=(("tmax ps", "what runs and waits"), ("tmax ps --failed", "what went wrong"), ("tmax ps -aq --limit 5", "ids only")))
def _ps(
    common: Common,
    every: Annotated[bool, typer.Option("--all", "-a", help="Ended tasks too.")] = False,
    state: Annotated[
        str | None, typer.Option("--state", metavar="S[,S]", parser=arguments.states, help=f"Only these: {', '.join(arguments.STATES)}.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed, dead and interrupted ones.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-l", metavar="N", parser=count, help="At most N; 0: no limit [default: 50].")
    ] = None,
) -> int:
    """List tasks."""
    return status.ps(common, every=every, state=state or "", failed=failed, limit=limit)


@verb(
    "attach",
    "[WORKER|TASK|dashboard]",
    examples=(
        ("tmax attach", "the dashboard"),
        ("tmax attach w3", "a worker; C-b d leaves it"),
        ("tmax attach -r 41", "whoever runs task 41, hands off"),
    ),
)
def _attach(
    common: Common,
    word: Annotated[str | None, typer.Argument(metavar="WORKER|TASK|dashboard", hidden=True)] = None,
    read_only: Annotated[bool, typer.Option("--read-only", "-r", help="Look, do not touch.")] = False,
) -> int:
    """Look at a worker, a task's worker, or the dashboard, in tmux."""
    return reach.attach(common, [word] if word else [], read_only=read_only)


@verb("tmux", "-- [TMUX COMMAND ...]", examples=(("tmax tmux list-sessions", "any tmux command, on the swarm's own server"),))
def _tmux(common: Common, words: Words = None) -> int:
    """Run tmux itself on the swarm's own server."""
    return reach.tmux(common, words or [])
