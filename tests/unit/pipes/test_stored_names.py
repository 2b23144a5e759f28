"""Names inside frames and stored rows, which stay when an attribute is renamed: older stores and processes use them."""

from __future__ import annotations

import msgspec

from tmax.cli.verbs import kernel_verb
from tmax_pipes.jobs import BACKENDS, DEVICES, DTYPES, Job, KernelJob, PythonJob, ShellJob
from tmax_pipes.messages import Run, ToWorker
from tmax_workers.kernels.backends import ITEM_BYTES


def test_a_job_keeps_the_stored_name_of_its_submitter_environment() -> None:
    jobs = (
        ShellJob(argv=(), submitter_environment=b"e"),
        PythonJob(call=b"", label="", submitter_environment=b"e"),
        KernelJob("n", submitter_environment=b"e"),
    )
    for job in jobs:
        data = msgspec.msgpack.encode(job)
        assert msgspec.msgpack.decode(data)["surroundings"] == b"e"
        assert msgspec.msgpack.decode(data, type=Job) == job


def test_a_run_keeps_the_name_of_its_flag_in_a_frame() -> None:
    run = Run(1, 1, ShellJob(argv=(b"true",)), needs_go=True)
    data = msgspec.msgpack.encode(run)
    assert msgspec.msgpack.decode(data)["ask"] is True
    assert msgspec.msgpack.decode(data, type=ToWorker) == run


def test_number_types_and_devices_are_the_same_everywhere() -> None:
    assert kernel_verb.DTYPES == DTYPES == tuple(ITEM_BYTES)
    assert DEVICES == ("auto", "cpu", "cuda", "mps")
    assert BACKENDS == ("auto", "numpy", "torch")
