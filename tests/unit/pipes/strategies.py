"""Hypothesis strategies for everything that crosses the border."""

from __future__ import annotations

from hypothesis import strategies as st

from tmax_pipes.jobs import Blob, KernelJob, PythonJob, ShellJob
from tmax_pipes.messages import (
    Beat,
    Done,
    Failed,
    Failure,
    Go,
    Hello,
    Holding,
    Recall,
    Recalled,
    Report,
    Run,
    Started,
    Stop,
    Stored,
    Who,
)
from tmax_pipes.options_struct import DEFAULT_OPTIONS, TaskOptions

ids = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**40)
seconds = st.floats(0, 1e9, allow_nan=False)
words = st.text(max_size=20)
raw = st.binary(max_size=200)
bodies = st.one_of(raw, st.builds(Blob, digest=st.text("0123456789abcdef", min_size=64, max_size=64), size_bytes=counts))
environments = st.dictionaries(st.binary(max_size=10), st.binary(max_size=20), max_size=3)

job_fields = {
    "submitter_environment": bodies,
    "umask": st.none() | st.integers(0, 0o777),
    "limits": st.dictionaries(st.integers(0, 20), st.tuples(st.integers(-1, 2**62), st.integers(-1, 2**62)), max_size=3),
    "fresh": st.booleans(),
    "keep_background": st.booleans(),
    "parent": ids,
}
python_jobs = st.builds(
    PythonJob,
    call=bodies,
    label=words,
    target=words,
    cwd=raw,
    path=st.lists(words, max_size=3).map(tuple),
    env=environments,
    python=words,
    function=bodies,
    context=bodies,
    **job_fields,
)
shell_jobs = st.builds(
    ShellJob, argv=st.lists(raw, max_size=4).map(tuple), cwd=raw, env=environments, split=st.booleans(), stdin=raw, **job_fields
)
kernel_values = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), seconds, words)
kernel_jobs = st.builds(
    KernelJob, name=words, params=st.dictionaries(words, kernel_values, max_size=3), repeat=counts, seed=ids, **job_fields
)
jobs = st.one_of(python_jobs, shell_jobs, kernel_jobs)

task_options = st.just(DEFAULT_OPTIONS) | st.builds(TaskOptions, name=words, timeout_s=seconds, grace_s=seconds, retries=counts)
reports = st.builds(Report, started_at=seconds, duration_s=seconds, cpu_s=seconds, peak_rss_bytes=counts, tail=raw, device=words)
failures = st.builds(
    Failure,
    kind=st.sampled_from(["exception", "exit", "signal", "notfound", "refused", "unpicklable", "timeout", "cancelled"]),
    message=words,
    traceback=words,
    error=st.none() | bodies,
    exit_code=st.none() | st.integers(0, 255),
)
keys = st.tuples(ids, ids)
holdings = st.builds(Holding, task=ids, attempt=ids, state=st.sampled_from(["queued", "asked", "running"]))

to_worker = st.one_of(
    st.builds(Who, epoch=counts, swarm=words, worker=words, threads=counts, beat_s=seconds),
    st.builds(Run, task=ids, attempt=ids, job=jobs, needs_go=st.booleans(), options=task_options),
    st.builds(Go, task=ids, attempt=ids),
    st.builds(Recall, task=ids, attempt=ids),
    st.builds(Stored, keys=st.lists(keys, max_size=5).map(tuple)),
    st.builds(Stop, task=ids, attempt=ids, why=st.sampled_from(["cancel", "timeout", "drain", "now"]), grace_s=seconds),
)
from_worker = st.one_of(
    st.builds(
        Hello,
        life=ids,
        pid=counts,
        ticks=counts,
        protocol=counts,
        python=words,
        holding=st.lists(holdings, max_size=4).map(tuple),
        results=st.lists(keys, max_size=4).map(tuple),
    ),
    st.builds(Started, task=ids, attempt=ids, at=seconds, group=counts),
    st.builds(Recalled, task=ids, attempt=ids, why=st.sampled_from(["asked", "stale", "drain"])),
    st.builds(Done, task=ids, attempt=ids, report=reports, result=bodies, form=st.sampled_from(["pickle", "json", "none"])),
    st.builds(Failed, task=ids, attempt=ids, report=reports, failure=failures),
    st.builds(Beat, task=ids, attempt=ids, rss_bytes=counts, cpu_s=seconds),
)
messages = st.one_of(to_worker, from_worker)
epochs = st.integers(0, 2**32 - 1)
