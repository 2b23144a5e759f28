r"""Messages on the control socket.

One Unix socket, peers of our own user only.  The first byte of a connection decides its language for good:

**JSON lines** (commands, dashboard).  A request is one line ``{"verb": NAME, ...}``; an answer is one line
``{"ok": true, ...}`` or ``{"error": {"code", "message", "hint"}}``.  A verb that streams sends lines with
``"more": true`` and ends with one without it.  Text from a person's shell (arguments, folders, environment) is
``os.fsdecode``d, so a byte that is not UTF-8 travels as a lone surrogate (``\udcXX``).
With ``"text": true`` an answer carries ``"text"`` instead of values, ready to be printed (``"width"``: columns, 0: no limit;
``"color"``: true when the reader's terminal shows colours).
With ``"pieces": true`` the answers of ``ps``, ``wait`` and ``cancel`` come as several lines, each with a part of the list or text,
made as fast as they are read; without it they are one line, however long.
Labels and reasons in a TaskView have at most 4,096 characters; one that was cut ends with an ellipsis.

| verb | fields | answer |
|---|---|---|
| ``hello`` | | ``swarm pid epoch version workers ready notice python`` |
| ``ready`` | ``timeout_s`` | streams ``{"phase", "ms"}``; ends when all workers are ready, or with an error |
| ``status`` | ``text width color`` | ``snapshot`` |
| ``workers`` | ``text width color`` | ``workers`` (list of WorkerView), |
| ``ps`` | ``all state limit text width color`` | ``tasks`` (list of TaskView); ``state``: a list, or names with commas (``failed,dead``), empty: those not ended, or with ``all`` every one; ``limit`` 0: no limit |
| ``submit`` | ``tasks`` (list of objects, see below), ``request_id`` | ``ids``, once committed |
| ``wait`` | ``ids timeout_s fail_fast`` | ``tasks`` (list of TaskView) once all have ended; error ``timeout`` otherwise |
| ``show`` | ``id`` | ``task``: TaskView fields and outcome: ``result`` (JSON) or ``pickle`` (base64) or ``blob`` (path), ``form``, ``failure``, ``report`` |
| ``logs`` | ``target`` | a task: ``task state worker file tail stderr live`` (``tail``: base64; ``stderr``: offset and length of its parts that are stderr; ``file``: path or null, the parts of its stderr stand beside it as pairs of little-endian u64 in ``ID.stderr``); a worker: ``worker text task`` (what its pane shows) |
| ``cancel`` | ``ids dry_run begun`` (``begun`` false: only those that have not begun) | ``results``: list of ``{"id", "was", "now"}`` |
| ``locate`` | ``target`` | ``session pane worker task`` of a worker, a task, or ``dashboard``; ``tmux`` (socket path) |
| ``select`` | ``selectors`` | ``ids`` for ``@``, ``@~2``, ``3-7``, ``3``, names |
| ``watch`` | ``always`` | streams ``{"snapshot"}`` at the dashboard's rhythm while a viewer is attached (always: while connected) |
| ``own`` | | the swarm ends, now, when this connection closes |
| ``hold`` / ``resume`` | | ``held`` |
| ``down`` | ``now`` | streams ``{"phase", ...}``; ends with ``{"queued": N, "running": N}`` when everything has stopped |
| ``announce`` | ``life place`` | (workers) none; the connection stays open while the worker lives |

A task in JSON: ``{"kind": "shell", "argv": [...], "cwd", "env", "stdin", "terminal_size"}``,
``{"kind": "python", "target", "args", "kwargs", "cwd", "env", "path", "python"}``,
``{"kind": "kernel", "kernel", "params", "device", "backend", "dtype", "repeat", "seed"}``, each with
the options of ``tmax_pipes.task_options`` that apply to its kind, ``parent`` (the task that submits it from inside), ``umask`` (a number) and
``limits`` (``{"7": [soft, hard]}``: ``RLIMIT_*`` numbers, -1 for none) of the submitter.  ``stdin``: an absolute path, or ``@NAME`` of an
abstract socket: the worker connects to it when the command begins and is sent a descriptor (SCM_RIGHTS), or a line with the reason why not.
``terminal_size``: ``[rows, columns]`` of the submitter's terminal; without it the program's is as large as the pane.

**Bulk frames** (the Python API).  Each is ``0xC1``, a u32 length (little-endian), and a msgpack body of the
unions below; ``notice`` may come at any time.  0xC1 is the one byte that begins neither JSON text nor a msgpack value.
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

import msgspec

from tmax.core.model import Crash
from tmax_pipes.jobs import Body, Job
from tmax_pipes.messages import Failure, Report
from tmax_pipes.options_struct import NOTHING_GIVEN, GivenOptions

BULK_MARK = 0xC1
BULK_HEAD = struct.Struct("<BI")
MAX_BULK_BYTES = 8 * 1024 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024


class BulkTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task of a bulk submit; its request id is ``CLIENT:SEQ``."""

    seq: int
    job: Job
    options: GivenOptions = NOTHING_GIVEN
    """Those not given are as the swarm's settings have them."""


class BulkSubmit(msgspec.Struct, frozen=True, tag="submit-3"):
    """Accept these tasks; ``again``: they may have been sent before (after a reconnect)."""

    client: str
    tasks: tuple[BulkTask, ...]
    again: bool = False


class BulkWatch(msgspec.Struct, frozen=True, tag="watch"):
    """Report the ends of these tasks on this connection (again after a reconnect; those already ended at once)."""

    ids: tuple[int, ...]


class BulkCancel(msgspec.Struct, frozen=True, tag="cancel"):
    """End these tasks; ``begun=False``: only those that have not begun."""

    ids: tuple[int, ...]
    begun: bool = True


class BulkAccepted(msgspec.Struct, frozen=True, tag="accepted"):
    """(seq, task id) of tasks now committed; their ends are reported on this connection without a request."""

    pairs: tuple[tuple[int, int], ...]


class BulkRefused(msgspec.Struct, frozen=True, tag="refused"):
    """These sequence numbers were not accepted."""

    seqs: tuple[int, ...]
    code: str
    message: str
    hint: str = ""


class BulkEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one task ended."""

    id: int
    state: Literal["done", "failed", "dead", "cancelled", "interrupted", "unknown"]
    result: Body = b""
    form: Literal["pickle", "json", "none"] = "none"
    failure: Failure | None = None
    report: Report | None = None
    crashes: tuple[Crash, ...] = ()
    worker: str = ""


class BulkEnded(msgspec.Struct, frozen=True, tag="ended"):
    """Tasks that ended, committed."""

    ends: tuple[BulkEnd, ...]


class BulkNotice(msgspec.Struct, frozen=True, tag="notice"):
    """Why tasks of this connection do not run, for a person; sent once each time it begins."""

    text: str


BulkRequest: TypeAlias = BulkSubmit | BulkWatch | BulkCancel
BulkReply: TypeAlias = BulkAccepted | BulkRefused | BulkEnded | BulkNotice
