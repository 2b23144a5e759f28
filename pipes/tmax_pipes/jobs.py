"""Jobs: frozen values that describe what to run, one class for each kind.

Arguments, folders and environment of a submitter are bytes, because a file name on Linux need not be valid UTF-8 and an
accepted task must not fail later for that.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias, get_args

import msgspec

BLOB_THRESHOLD_BYTES = 64 * 1024
"""A body larger than this travels as a file (``blobs.py``), named in the frame by its digest."""


class Blob(msgspec.Struct, frozen=True):
    """A body kept as a file: its SHA-256 as hexadecimal text, and its size in bytes."""

    digest: str
    size_bytes: int


Body: TypeAlias = bytes | Blob
"""Bytes in the frame itself, or the name of the file that holds them."""


Limits: TypeAlias = dict[int, tuple[int, int]]
"""Resource limits: number of the resource (``resource.RLIMIT_*``) to (soft, hard); -1 is no limit."""

STDLIB = "<stdlib>"
"""In ``Context.path``: the position of the interpreter's own standard library."""


class SubmitterEnvironment(msgspec.Struct, frozen=True, omit_defaults=True):
    """The submitter's process environment, applied before a task and reverted after it."""

    cwd: bytes = b""
    """Working directory; empty: leave the worker's own."""
    env: dict[bytes, bytes] = {}
    """Whole environment; empty: leave the worker's own."""
    umask: int | None = None
    """None: leave the worker's own."""
    limits: Limits = {}
    """Those not named stay as they are in the worker."""
    locale: str = ""
    """As ``setlocale(LC_ALL, None)`` returns it; empty: derived from ``env``, as in a program that has just started."""
    argv: tuple[str, ...] = ()
    """``sys.argv`` of the submitter, for Python tasks; empty: leave the worker's own."""
    recursion_limit: int = 0
    """Of the interpreter, for Python tasks; 0: leave the worker's own."""


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """The program whose code a worker process runs.  A process that has run a task of one context never runs one of another."""

    python: str = ""
    """``major.minor`` of the submitter; a worker of another version refuses a pickle and names both."""
    path: tuple[str, ...] = ()
    """The submitter's ``sys.path``, absolute, with ``STDLIB`` at the position of the standard library."""
    main_file: str = ""
    """Source file of the submitter's ``__main__`` if it can be imported again (it has a main guard); else empty."""
    main_module: str = ""
    """Name of that module where it was run by ``python -m``."""
    main_mark: tuple[int, int] = (0, 0)
    """Modification time (ns) and size of ``main_file`` when the program started: an edited file is another program."""
    program: str = ""
    """``__file__`` of the submitter's ``__main__``, for messages; empty for an interactive one."""
    initializer: Body = b""
    """cloudpickle of ``(function, args)``, called once in each worker process before its first task."""
    max_tasks: int = 0
    """Tasks after which a worker process is replaced; 0: no limit."""
    client: str = ""
    """Restricts the context to one client; empty: programs with the same ``path`` share their workers."""


class JobOptions(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename={"submitter_environment": "surroundings"}):
    """Options of where and how a job runs, for every kind."""

    submitter_environment: Body = b""
    """An encoded ``SubmitterEnvironment``, sent once for many tasks; fields of the job itself take precedence."""
    umask: int | None = None
    limits: Limits = {}
    fresh: bool = False
    """Run it in a worker process that has run no task before, and no other task in that process afterwards."""
    keep_background: bool = False
    """Background processes of the task keep running after its end."""
    parent: int = 0
    """The running task that submitted this one; 0: none."""


class PythonJob(JobOptions, frozen=True, tag="python", omit_defaults=True):
    """Call a Python function.

    With ``function`` the body of the call is a pickle of ``(args, kwargs)``; ``function`` is the pickled function, sent once for many calls.
    With an empty ``function`` and an empty ``target`` the body is a cloudpickle of ``(function, args, kwargs)``.
    With ``target`` (``"module:qualified.name"``) the worker imports the function and the body is the
    JSON text of ``[args, kwargs]``.
    """

    call: Body
    label: str
    """Shown to people: ``module.function`` or ``<lambda>``."""
    target: str = ""
    cwd: bytes = b""
    """The submitter's working directory; empty: leave the worker's own."""
    path: tuple[str, ...] = ()
    """The submitter's ``sys.path`` entries; those the worker lacks are added behind its own."""
    env: dict[bytes, bytes] = {}
    """Environment of the submitter, applied around the call and reverted after it; empty: unchanged."""
    python: str = ""
    """``major.minor`` of the submitter; a worker of another version refuses a pickle and names both."""
    function: Body = b""
    context: Body = b""
    """An encoded ``Context``; empty: ``path`` and ``python`` define the context."""


class ShellJob(JobOptions, frozen=True, tag="shell", omit_defaults=True):
    """Run a program: an argument vector, never a shell string (``sh -c`` is an argument vector too)."""

    argv: tuple[bytes, ...]
    cwd: bytes = b""
    env: dict[bytes, bytes] = {}
    """The whole environment of the child, as the submitter had it; empty: the worker's own."""
    split: bool = False
    """True: two pipes for stdout and stderr. False: one pseudo-terminal, so output comes line by line."""
    stdin: bytes = b""
    """The program's standard input: a path, or ``@NAME`` of an abstract socket on which the submitter passes its own descriptor.

    Empty: the terminal, or ``/dev/null`` where there is none.
    """
    terminal_size: tuple[int, int] | None = None
    """Rows and columns of the submitter's terminal, for the program's own; None: those of the pane, also when they change."""


KernelValue: TypeAlias = int | float | str | bool
Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Backend: TypeAlias = Literal["auto", "numpy", "torch"]
DEVICES: tuple[Device, ...] = get_args(Device)
BACKENDS: tuple[Backend, ...] = get_args(Backend)
DTYPES = ("float64", "float32", "float16", "bfloat16")


class KernelJob(JobOptions, frozen=True, tag="kernel", omit_defaults=True):
    """Run a numeric kernel, timed with the device synchronised."""

    name: str
    """``matmul``, ``eigvals`` or ``reduce``."""
    params: dict[str, KernelValue] = {}
    """Sizes of the kernel, for example ``{"n": 2048}`` or ``{"n": 100, "batch": 8}``."""
    device: Device = "auto"
    backend: Backend = "auto"
    dtype: str = "float64"
    repeat: int = 1
    seed: int = 0


Job: TypeAlias = PythonJob | ShellJob | KernelJob


def label_of(job: Job) -> str:
    """Return a one-line description of the job for people, without the bodies of its arguments."""
    if isinstance(job, PythonJob):
        return job.label or job.target
    if isinstance(job, ShellJob):
        return " ".join(part.decode("utf-8", "replace") for part in job.argv)
    sizes = " ".join(f"{key}={value}" for key, value in job.params.items())
    return f"{job.name} {sizes}".rstrip()


def kind_of(job: Job) -> str:
    """Return the kind's name: ``python``, ``shell`` or ``kernel``."""
    return str(type(job).__struct_config__.tag)


_encode = msgspec.msgpack.Encoder().encode
_submitter_environment = msgspec.msgpack.Decoder(SubmitterEnvironment)
_context = msgspec.msgpack.Decoder(Context)


def encode_submitter_environment(submitter_environment: SubmitterEnvironment) -> bytes:
    """Return the encoded value; equal values give equal bytes."""
    # msgspec's deterministic order supports text keys only.
    env, limits = dict(sorted(submitter_environment.env.items())), dict(sorted(submitter_environment.limits.items()))
    return _encode(msgspec.structs.replace(submitter_environment, env=env, limits=limits))


def decode_submitter_environment(data: bytes) -> SubmitterEnvironment:
    """Decode the result of ``encode_submitter_environment``.  Raises msgspec.MsgspecError for other bytes."""
    return _submitter_environment.decode(data)


def encode_context(context: Context) -> bytes:
    """Return the encoded value; equal values give equal bytes."""
    return _encode(context)


def decode_context(data: bytes) -> Context:
    """Decode the result of ``encode_context``.  Raises msgspec.MsgspecError for other bytes."""
    return _context.decode(data)


def context_key(job: Job) -> str:
    """Return the identity of the job's context; empty for a job that any worker may run, whatever it ran before."""
    if not isinstance(job, PythonJob):
        return ""
    if isinstance(job.context, Blob):
        return job.context.digest
    if job.context:
        return hashlib.sha256(job.context).hexdigest()
    return hashlib.sha256("\0".join((job.python, *job.path)).encode("utf-8", "surrogatepass")).hexdigest() if job.path else ""


def shared_digests(job: Job) -> list[str]:
    """Return the digests of the blobs that a job shares with others of its client; they must be kept as long as the job may run."""
    bodies = (job.submitter_environment, job.function, job.context) if isinstance(job, PythonJob) else (job.submitter_environment,)
    return [body.digest for body in bodies if isinstance(body, Blob)]
