"""``bench``: put a load on a swarm and report what it did."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import DRY_RUN, Option, Verb
from tmax.core.option_values import one_of, positive, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmax.api.swarm import Swarm
    from tmax.loadgen.load_plan import LoadPlan

PROFILES = ("light", "medium", "heavy", "stress")
"""Known here so that help needs no import of the generator; a test compares them with its own."""
_TERMINAL_S, _FILE_S = 1.0, 10.0
"""Between two lines of progress, on a terminal and in a file."""


def kinds(text: str) -> tuple[str, ...]:
    """Return the kinds in ``python,command``.  The generator checks them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def bench(
    common: output.Common,
    *,
    profile: str = "medium",
    duration: float | None = None,
    submitters: int | None = None,
    kind: tuple[str, ...] = (),
    temporary: bool = False,
    workers: int | None = None,
    dry_run: bool = False,
) -> int:
    """Run a load and print its report.  Raises UsageError, NoSwarm, SwarmGone."""
    from tmax.errors import UsageError
    from tmax.loadgen.load_plan import load_plan

    plan = load_plan(profile, duration_s=duration, submitters=submitters, kinds=kind)
    if workers is not None and not temporary:
        raise UsageError("--workers is the size of a temporary swarm", hint="add --temporary, or change the swarm: tmax init -n N")
    if temporary and common.swarm is not None:
        raise UsageError("--temporary makes a swarm of its own; --swarm names one that exists", hint="leave one of them out")
    name = "" if temporary else common.layout.swarm
    if dry_run:
        _print(common, {"swarm": name, "temporary": temporary, "plan": plan.described()}, _plan_text(plan, name))
        return 0
    return _run(common, plan, name, workers)


def _run(common: output.Common, plan: LoadPlan, name: str, workers: int | None) -> int:
    """Run the load until its end or the first signal; a second signal ends the process at once, which leaves its tasks queued."""
    import os
    import threading

    from tmax.cli.signals import Signals
    from tmax.loadgen.load_generator import run_load
    from tmax.loadgen.load_report import report_text

    stop = threading.Event()
    signals = Signals(stop.set, lambda: None)
    swarm = None
    try:
        swarm = _swarm(name, workers)
        _notify(common, f"load on swarm {swarm.name}: profile {plan.profile}, {plan.submitters} submitters, {plan.duration_s:g} s")
        report = run_load(plan, swarm, stop, _progress(common, plan), progress_s=_TERMINAL_S if os.isatty(2) else _FILE_S)
    finally:
        try:
            if swarm is not None:
                swarm.shutdown()
        finally:
            signals.close()
    report["interrupted"] = bool(signals.number)
    _print(common, report, report_text(report))
    return signals.exit_code if signals.number else int(report["tasks"]["failed"] > 0)


def _swarm(name: str, workers: int | None) -> Swarm:
    from tmax.api.swarm import Swarm

    return Swarm.connect(name) if name else Swarm(workers)


def _progress(common: output.Common, plan: LoadPlan) -> Any:
    def show(elapsed_s: float, done: int, failed: int) -> None:
        rate = done / elapsed_s if elapsed_s else 0.0
        _notify(common, f"{elapsed_s:.0f} of {plan.duration_s:.0f} s: {done} tasks done, {failed} failed, {rate:,.0f} tasks/s")

    return show


def _notify(common: output.Common, text: str) -> None:
    """Write a line of progress to stderr, also where that is a file; none with --json, as stderr then holds errors as JSON."""
    if not common.quiet and not common.json:
        output.write_message(text)


def _print(common: output.Common, value: dict[str, Any], text: str) -> None:
    if common.json:
        output.write_json({"schema_version": output.SCHEMA_VERSION, **value})
    elif not common.quiet:
        output.write(text)


def _plan_text(plan: LoadPlan, name: str) -> str:
    mix = ", ".join(f"{weight} {kind}" for kind, weight in plan.weights.items())
    return (
        f"would submit to {f'swarm {name}' if name else 'a temporary swarm'} for {plan.duration_s:g} s, profile {plan.profile}:\n"
        f"  submitters  {plan.submitters}, each with up to {plan.in_flight} tasks in flight"
        f"{f' and a pause of {plan.pause_s:g} s between submits' if plan.pause_s else ''}\n"
        f"  mix         {mix}\n"
        f"  sizes       python: a sum of {plan.python_items} numbers; command: true; kernel: matmul of {plan.kernel_n} x {plan.kernel_n}\n"
    )


VERB = Verb(
    "bench",
    bench,
    options=(
        Option(
            "profile",
            "--profile",
            read=one_of(*PROFILES),
            metavar="P",
            help="How much load: light, medium, heavy or stress.",
            default="medium",
        ),
        Option("duration", "--duration", read=seconds, metavar="D", help="How long to submit.", default="of the profile"),
        Option("submitters", "--submitters", read=positive, metavar="N", help="Clients that submit at once.", default="of the profile"),
        Option("kind", "--kind", read=kinds, metavar="K,K", help="Kinds of tasks: python, command, kernel.", default="all"),
        Option("temporary", "--temporary", help="Make a swarm for the load, and end it afterwards."),
        Option("workers", "--workers", read=positive, metavar="N", help="Workers of the temporary swarm.", default="one a core"),
        DRY_RUN,
    ),
    help="""Put a load on the swarm and report what it did.

    Submits a mix of Python calls, commands and kernels, and prints tasks per second, latencies, failures by kind, and the CPU and
    memory of controller and workers.  Progress goes to stderr, unless --json or --quiet is given.  Ctrl-C ends the load and prints
    the report.  At its end it cancels what it submitted and has not ended.  Exit 1 when a task failed.""",
    examples=(
        ("tmax bench --temporary", "a minute of medium load on a swarm of its own"),
        ("tmax bench --profile heavy --duration 300 --submitters 20", "load for five minutes on the running swarm"),
        ("tmax bench --kind python,command --json", "only these kinds, as JSON"),
        ("tmax bench --profile stress --dry-run", "what a profile consists of"),
    ),
)
