"""What to run: a frozen value of one of the kinds a worker knows.

Text that comes from a person's shell (arguments, folders, environment) is kept as bytes, because a
file name on Linux need not be valid UTF-8 and nothing accepted may be refused later for that.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

BLOB_THRESHOLD_BYTES = 64 * 1024
"""A body larger than this travels as a file (``blobs.py``), named in the frame by its digest."""


class Blob(msgspec.Struct, frozen=True):
    """A body kept as a file: its SHA-256 as hexadecimal text, and its size in bytes."""

    digest: str
    size_bytes: int


Body: TypeAlias = bytes | Blob
"""Bytes that travel in the frame, or the name of a file that holds them."""


class PythonJob(msgspec.Struct, frozen=True, tag="python", omit_defaults=True):
    """Call a Python function.

    With an empty ``target`` the body is a cloudpickle of ``(function, args, kwargs)``.
    With ``target`` (``"module:qualified.name"``) the worker imports the function and the body is the
    JSON text of ``[args, kwargs]``.
    """

    call: Body
    label: str
    """What a person reads: ``module.function`` or ``<lambda>``."""
    target: str = ""
    cwd: bytes = b""
    """The submitter's working directory; empty: leave the worker's own."""
    path: tuple[str, ...] = ()
    """The submitter's ``sys.path`` entries; those the worker lacks are added behind its own."""
    env: dict[bytes, bytes] = {}
    """Environment of the submitter, applied around the call and taken back after it; empty: unchanged."""
    python: str = ""
    """``major.minor`` of the submitter; a worker of another version refuses a pickle and names both."""


class ShellJob(msgspec.Struct, frozen=True, tag="shell", omit_defaults=True):
    """Run a program: an argument vector, never a shell string (``sh -c`` is an argument vector too)."""

    argv: tuple[bytes, ...]
    cwd: bytes = b""
    env: dict[bytes, bytes] = {}
    """The whole environment of the child, as the submitter had it; empty: the worker's own."""
    split: bool = False
    """True: two pipes for stdout and stderr. False: one pseudo-terminal, so output comes line by line."""


KernelValue: TypeAlias = int | float | str | bool


class KernelJob(msgspec.Struct, frozen=True, tag="kernel", omit_defaults=True):
    """Run a numeric kernel, timed with the device synchronised."""

    name: str
    """``matmul``, ``eigvals`` or ``reduce``."""
    params: dict[str, KernelValue] = {}
    """Sizes of the kernel, for example ``{"n": 2048}`` or ``{"n": 100, "batch": 8}``."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    backend: Literal["auto", "numpy", "torch"] = "auto"
    dtype: str = "float64"
    repeat: int = 1
    seed: int = 0


Job: TypeAlias = PythonJob | ShellJob | KernelJob


def label_of(job: Job) -> str:
    """Return one line a person can read: what this job runs, without its arguments' bodies."""
    if isinstance(job, PythonJob):
        return job.label or job.target
    if isinstance(job, ShellJob):
        return " ".join(part.decode("utf-8", "replace") for part in job.argv)
    sizes = " ".join(f"{key}={value}" for key, value in job.params.items())
    return f"{job.name} {sizes}".rstrip()


def kind_of(job: Job) -> str:
    """Return the kind's name: ``python``, ``shell`` or ``kernel``."""
    return str(type(job).__struct_config__.tag)
