"""Dispatch of a job to its kind.  Shell jobs are not here: they run in a child process (``kinds/shell.py``)."""

from __future__ import annotations

import json

from tmax_pipes.jobs import KernelJob, PythonJob
from tmax_workers.kinds import python
from tmax_workers.kinds.python import Output


def call(job: PythonJob | KernelJob, blob_folder: str, caller: python.Caller = python.directly) -> Output:
    """Run a job on this thread; raises what it raises (see ``kinds/python.py`` and ``kinds/kernel.py``).

    ``caller`` calls the user's function once it is loaded.
    """
    if isinstance(job, PythonJob):
        return python.run(job, blob_folder, caller)
    from tmax_workers.kinds import kernel

    figures, device, strategy = kernel.run(job)
    return Output(result=json.dumps(figures).encode(), form="json", device=device, strategy=strategy)
