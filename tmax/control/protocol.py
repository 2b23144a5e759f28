r"""The protocol of the control socket.

One Unix socket, for clients of the same user only.  The first byte of a connection decides its format for the whole connection:

**JSON lines** (the command line).  A request is one line ``{"verb": NAME, ...}``; a reply is one line
``{"ok": true, ...}`` or ``{"error": {"code", "message", "hint"}}``.  A verb that streams sends lines with
``"more": true`` and ends with one without it.  Text from the user's shell (arguments, folders, environment) is
``os.fsdecode``d, so a byte that is not UTF-8 is sent as a lone surrogate (``\udcXX``).
With ``"text": true`` a reply carries ``"text"`` instead of values, ready to be printed (``"width"``: columns, 0: no limit;
``"color"``: true when the client's terminal shows colours).
With ``"pieces": true`` the replies of ``ps``, ``wait`` and ``cancel`` are several lines, each with a part of the list or text,
sent as fast as the client reads them; without it they are one line of any length.
Labels and reasons in a TaskView have at most 4,096 characters; one that was cut ends with an ellipsis.

| verb | fields | reply |
|---|---|---|
| ``hello`` | | ``swarm pid epoch version workers ready notice python healed`` (``healed``: how often files of the runtime folder were restored) |
| ``ready`` | ``timeout_s`` | streams ``{"phase", "ms"}``; ends when all workers are ready, or with an error |
| ``status`` | ``text width color`` | ``snapshot`` |
| ``workers`` | ``text width color`` | ``workers`` (list of WorkerView) |
| ``ps`` | ``all state limit text width color`` | ``tasks`` (list of TaskView); ``state``: a list, or names separated by commas (``failed,dead``); empty: tasks that have not ended, or with ``all`` every task; ``limit`` 0: no limit |
| ``submit`` | ``tasks`` (list of objects, see below), ``request_id`` | ``ids``, once committed |
| ``wait`` | ``ids timeout_s fail_fast`` | ``tasks`` (list of TaskView) once all have ended; the error ``timeout`` after ``timeout_s`` |
| ``show`` | ``id`` | ``task``: TaskView fields and outcome: ``result`` (JSON) or ``pickle`` (base64) or ``blob`` (path), ``form``, ``failure``, ``report`` |
| ``logs`` | ``target`` | a task: ``task state worker file tail stderr live`` (``tail``: base64; ``stderr``: offset and length of its parts that are stderr; ``file``: path or null; ``ID.stderr`` beside it lists its parts that are stderr as pairs of little-endian u64); a worker: ``worker text task`` (``text``: of its pane) |
| ``cancel`` | ``ids dry_run begun`` (``begun`` false: only those that have not begun) | ``results``: list of ``{"id", "was", "now"}`` |
| ``locate`` | ``target`` | ``session pane worker task`` of a worker, a task, or ``dashboard``; ``tmux`` (socket path) |
| ``select`` | ``selectors`` | ``ids`` for ``@``, ``@~2``, ``3-7``, ``3``, names |
| ``watch`` | ``always`` | streams ``{"snapshot"}`` every ``dashboard.refresh_s`` while the monitor session has a viewer (``always``: while connected) |
| ``own`` | | the swarm goes down as with ``now`` when this connection closes |
| ``hold`` / ``resume`` | | ``held`` |
| ``down`` | ``now`` | streams ``{"phase", ...}``; ends with ``{"queued": N, "running": N}`` when the swarm is down |
| ``announce`` | ``life place`` | (workers) none; the connection stays open while the worker lives |

A task in JSON: ``{"kind": "shell", "argv": [...], "cwd", "env", "stdin", "terminal_size"}``,
``{"kind": "python", "target", "args", "kwargs", "cwd", "env", "path", "python"}``,
``{"kind": "kernel", "kernel", "params", "device", "backend", "dtype", "repeat", "seed"}``, each with
the options of ``tmax_pipes.task_options`` that apply to its kind, ``parent`` (the task that submits it from inside), ``umask`` (a number) and
``limits`` (``{"7": [soft, hard]}``: ``RLIMIT_*`` numbers, -1 for none) of the submitter.  ``stdin``: an absolute path, or ``@NAME`` of an
abstract socket: the worker connects to it when the command begins and receives a descriptor (SCM_RIGHTS), or a line with the reason why not.
``terminal_size``: ``[rows, columns]`` of the submitter's terminal; without it the program's terminal has the size of the pane.

**Bulk frames** (the Python API).  Each is ``0xC1``, a u32 length (little-endian), and a msgpack body of the
unions below; ``notice`` may be sent at any time.  0xC1 is the only byte that begins neither JSON text nor a msgpack value.
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
    """Report the ends of these tasks to this connection (sent again after a reconnect); ended ones are reported at once."""

    ids: tuple[int, ...]


class BulkCancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Cancel these tasks; ``begun=False``: only those that have not begun."""

    ids: tuple[int, ...]
    begun: bool = True


class BulkAccepted(msgspec.Struct, frozen=True, tag="accepted"):
    """(seq, task id) of tasks that are now committed; their ends are reported to the connection without a ``BulkWatch``."""

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
    """Tasks that have ended; their ends are committed."""

    ends: tuple[BulkEnd, ...]


class BulkNotice(msgspec.Struct, frozen=True, tag="notice"):
    """Why tasks of this connection do not proceed, as a line for the user; sent once each time this begins."""

    text: str


BulkRequest: TypeAlias = BulkSubmit | BulkWatch | BulkCancel
BulkReply: TypeAlias = BulkAccepted | BulkRefused | BulkEnded | BulkNotice
