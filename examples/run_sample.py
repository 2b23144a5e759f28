"""The sample job through a swarm that is up, then in one plain process, then the report: what ``scripts/start`` ends with.

    python -m examples.run_sample [--no-torch]

    sample_job.work --> Swarm.connect(): kernel / submit / shell --> futures, shown as they end
                                    their records, by ``show`` --> report.py
                    --> python -m examples.plain --json ---------/

Exit codes: 0 all done and both ways agree; 1 a task failed or a result differs; 3 no swarm; 130 interrupted (what was
submitted is cancelled, the swarm stays).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, cast

from examples.report import Record, Run, count, not_accepted, record_of, report
from examples.sample_job import Work, hashes_check, kernel_check, tokens_check, work
from examples.stdlib_tokens import count_tokens
from tmax import Swarm
from tmax.api.outcomes import ExitStatus
from tmax.control.client import Client, connect
from tmax.errors import TmaxError
from tmax.layout import Layout, locate

TICK_S = 0.2
"""How often the seconds on a terminal's progress line move."""
LINE_S = 2.0
"""Without a terminal: at most one line in so many seconds."""


class Progress:
    """How far a step is: a bar that is drawn over on a terminal, a line now and then elsewhere.  ``total`` 0: not known."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._began = self._said = time.monotonic()
        self._shown = 0

    def show(self, done: int) -> None:
        """Say that so many are done; called as often as one likes."""
        seconds = time.monotonic() - self._began
        if self._live:
            bar = f"[{'#' * (24 * done // self._total):<24}] {done}/{self._total}" if self._total else "..."
            line = f"  {self._what:<8} {bar}  {seconds:.0f} s"
            print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif done != self._shown and time.monotonic() - self._said >= LINE_S:
            print(f"  {self._what:<8} {done}/{self._total}", flush=True)
            self._said, self._shown = time.monotonic(), done

    def end(self, text: str) -> None:
        """Replace it by how it ended."""
        clear = "\r\033[K" if self._live else ""
        print(f"{clear}  {self._what:<8} {text}  ({time.monotonic() - self._began:.1f} s)", flush=True)


# -- through the swarm -----------------------------------------------------------------------------


def submit_kernels(swarm: Swarm, job: Work) -> list[Future[Any]]:
    """Submit the kernels, the longest first: nothing is left to one worker at the end."""
    return [
        swarm.kernel(run.name, backend=run.backend, dtype=run.dtype, repeat=run.repeat, seed=run.seed, n=run.n)  # type: ignore[arg-type]
        for run in reversed(job.kernels)
    ]


def submit_tokens(swarm: Swarm, job: Work) -> list[Future[Any]]:
    """Submit one call for each batch of files."""
    return [swarm.submit(count_tokens, list(batch)) for batch in job.token_batches]


def submit_hashes(swarm: Swarm, job: Work) -> list[Future[Any]]:
    """Submit the commands."""
    return [swarm.shell(command) for command in job.hash_commands]


SUBMIT: dict[str, Callable[[Swarm, Work], list[Future[Any]]]] = {
    "kernel": submit_kernels,
    "python": submit_tokens,
    "shell": submit_hashes,
}


def watch(kind: str, futures: Sequence[Future[Any]]) -> None:
    """Show how they end, until all have; a failed one is counted here and told in the report."""
    progress = Progress(kind, len(futures))
    open_ones = set(futures)
    while open_ones:
        progress.show(len(futures) - len(open_ones))
        open_ones = wait(open_ones, timeout=TICK_S, return_when=FIRST_COMPLETED).not_done
    bad = sum(not is_good(future) for future in futures)
    progress.end(f"{len(futures)} tasks ended" + (f", {bad} of them badly" if bad else ""))


def is_good(future: Future[Any]) -> bool:
    """Return whether the task succeeded; a program's exit status other than 0 is no success."""
    if future.cancelled() or future.exception() is not None:
        return False
    value = future.result()
    return value.ok if isinstance(value, ExitStatus) else True


def output_of(status: ExitStatus) -> str:
    """Return what a program printed: it is in the record when it is short, else in the task's log."""
    return (Path(status.log).read_bytes() if status.log else status.output).decode()


def checks_of(job: Work, futures: Mapping[str, Sequence[Future[Any]]]) -> dict[str, object]:
    """Return what the results of each kind add up to, as ``plain.py`` does; kinds with a bad end are left out."""
    values = {kind: [future.result() for future in some] for kind, some in futures.items() if all(map(is_good, some))}
    checks: dict[str, object] = {}
    if "kernel" in values:
        pairs = zip(job.kernels, reversed(values["kernel"]), strict=True)
        checks["kernel"] = [kernel_check(run, got["checksum"]) for run, got in pairs]
    if "python" in values:
        checks["python"] = tokens_check(values["python"])
    if "shell" in values:
        checks["shell"] = hashes_check(map(output_of, values["shell"]))
    return checks


def recorded(client: Client, kind: str, future: Future[Any]) -> Record:
    """Return what the swarm has on record about this task; one that was never accepted is a failure like any other."""
    number = task_of(future)
    if number is None:
        return not_accepted(kind, str(future.exception()))
    return record_of(cast("dict[str, Any]", client.request("show", id=number)["task"]))


def task_of(future: Future[Any]) -> int | None:
    """Return the number of a future's task; None when it has none."""
    return cast("int | None", getattr(future, "task_id", None))


def cancel(layout: Layout, futures: Iterable[Future[Any]]) -> int:
    """End those of the tasks that have not ended; return how many."""
    ids = [number for future in futures if not future.done() and (number := task_of(future)) is not None]
    if ids:
        with connect(layout) as client:
            client.request("cancel", ids=ids)
    return len(ids)


def run_on(swarm: Swarm, layout: Layout, job: Work) -> dict[str, list[Future[Any]]]:
    """Do the work one kind after the other, so that each kind's seconds are its own; Ctrl-C cancels what is left."""
    futures: dict[str, list[Future[Any]]] = {}
    try:
        for kind, submit in SUBMIT.items():
            futures[kind] = submit(swarm, job)
            watch(kind, futures[kind])
    except KeyboardInterrupt:
        ended = cancel(layout, [future for some in futures.values() for future in some])
        print(f"\n{count(ended, 'task')} cancelled", file=sys.stderr)
        raise
    return futures


# -- in one plain process --------------------------------------------------------------------------


def run_plain(with_torch: bool) -> dict[str, Any] | None:
    """Run ``examples/plain.py`` with this interpreter and return its figures; None when it failed (it has said why)."""
    command = [sys.executable, "-m", "examples.plain", "--json", *([] if with_torch else ["--no-torch"])]
    progress = Progress("plain", 0)
    # In a session of its own: Ctrl-C is for us, and we end it.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True) as program:
        try:
            while True:
                try:
                    output = program.communicate(timeout=TICK_S)[0]
                    break
                except subprocess.TimeoutExpired:
                    progress.show(0)
        except BaseException:  # whatever stopped us, Ctrl-C above all: the plain process must not go on without us
            program.kill()
            raise
    progress.end("the same work in one process" if not program.returncode else f"failed with exit code {program.returncode}")
    figures: dict[str, Any] | None = None if program.returncode else json.loads(output)
    return figures


# -- the whole -------------------------------------------------------------------------------------


def attach_line() -> str:
    """Return the one line that says how to attach."""
    beside = Path(sys.executable).parent / "tmax"
    command = "tmax" if shutil.which("tmax") or not beside.exists() else shlex.quote(str(beside))
    return f"The swarm stays up.  To attach: {command} attach   (C-b d leaves; attach w1: one worker; down: end it)"


def run(with_torch: bool) -> int:
    """Do all of it and print the report."""
    job = work(with_torch)
    with Swarm.connect() as swarm:
        layout = locate(swarm.name)
        names = [worker.name for worker in swarm.workers() if not worker.pooled]
        futures = run_on(swarm, layout, job)
        with connect(layout) as client:
            records = [recorded(client, kind, future) for kind, some in futures.items() for future in some]
        checks = checks_of(job, futures)
        name = swarm.name
    done = Run(
        swarm=name,
        workers=names,
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        records=records,
        checks=checks,
        plain=run_plain(with_torch),
    )
    print(f"\n{report(done)}\n{attach_line()}", flush=True)
    return 0 if done.ok else 1


def main(argv: list[str]) -> int:
    """Parse, run, and say in two lines what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m examples.run_sample", description="The sample job on a swarm that is up.")
    parser.add_argument("--no-torch", action="store_true", help="leave the torch kernel out")
    arguments = parser.parse_args(argv)
    try:
        return run(not arguments.no_torch and importlib.util.find_spec("torch") is not None)
    except TmaxError as error:
        print(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the swarm stays up", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
