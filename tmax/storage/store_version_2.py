"""Store version 1 to 2: the options of a task, which were fields of its blobs, become one map.

::

    spec   [job, kind, name, request_id, delivery, timeout_s, retries, deliveries, grace_s, submitted_at]
           --> [job, kind, {options}, request_id, submitted_at]
    moves  [state, priority, attempt, failures, crashes, lease, not_before, cancelling, solo, ended_at, outcome, ran_on]
           --> the same without priority and not_before

It knows both layouts by itself, since the classes of today will change: what is not moved is copied as bytes.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

import msgspec

_AT_ONCE = 1000
_CRC_BYTES = 4
_SPEC_FIELDS = 10
_MOVES_FIELDS = 12
_PARTS = msgspec.msgpack.Decoder(list[msgspec.Raw])
_encode = msgspec.msgpack.Encoder().encode

_DEFAULTS: dict[str, Any] = {
    "name": "",
    "priority": "normal",
    "timeout_s": 0.0,
    "grace_s": 10.0,
    "retries": 0,
    "deliveries": 3,
    "delivery": None,
}
"""Of version 2: what equals them is left out of the map."""
_DELIVERY_OF_KIND = {"kernel": "at-least-once", "python": "at-least-once", "shell": "at-most-once"}
"""Of version 2: a delivery that equals its kind's is left out as well."""


def options_as_one_map(connection: sqlite3.Connection) -> None:
    """Rewrite the blobs of every task.  A damaged one stays as it is: reading it names it.  Raises sqlite3.Error."""
    last = 0
    while True:
        rows = connection.execute(
            "SELECT id, moves, spec FROM tasks JOIN specs ON task = id WHERE id > ? ORDER BY id LIMIT ?", (last, _AT_ONCE)
        ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        made = [(number, blobs) for number, moves, spec in rows if (blobs := _rewritten(number, moves, spec)) is not None]
        connection.executemany("UPDATE tasks SET moves = ? WHERE id = ?", [(moves, number) for number, (moves, _) in made])
        connection.executemany("UPDATE specs SET spec = ? WHERE task = ?", [(spec, number) for number, (_, spec) in made])


def _rewritten(number: int, moves_blob: object, spec_blob: object) -> tuple[bytes, bytes] | None:
    """Return both blobs of a task in the layout of version 2; None for blobs that are not what was written."""
    moves, spec = _parts(number, moves_blob, _MOVES_FIELDS), _parts(number, spec_blob, _SPEC_FIELDS)
    if moves is None or spec is None:
        return None
    job, kind, name, request_id, delivery, timeout_s, retries, deliveries, grace_s, submitted_at = spec
    state, priority, attempt, failures, crashes, lease, _, cancelling, solo, ended_at, outcome, ran_on = moves
    encoded = {"name": name, "priority": priority, "timeout_s": timeout_s, "grace_s": grace_s, "retries": retries}
    encoded |= {"deliveries": deliveries, "delivery": delivery}
    options = {key: msgspec.msgpack.decode(value) for key, value in encoded.items()}
    if options["delivery"] == _DELIVERY_OF_KIND.get(msgspec.msgpack.decode(kind)):
        options["delivery"] = None
    options = {key: value for key, value in options.items() if value != _DEFAULTS[key]}
    new_moves = [state, attempt, failures, crashes, lease, cancelling, solo, ended_at, outcome, ran_on]
    return _seal(number, new_moves), _seal(number, [job, kind, options, request_id, submitted_at])


def _parts(number: int, sealed: object, count: int) -> list[msgspec.Raw] | None:
    """Return the ``count`` fields of a blob, still encoded; None where its checksum or its layout is wrong."""
    if not isinstance(sealed, bytes) or zlib.crc32(sealed[_CRC_BYTES:], number & 0xFFFFFFFF) != int.from_bytes(
        sealed[:_CRC_BYTES], "little"
    ):
        return None
    try:
        parts = _PARTS.decode(sealed[_CRC_BYTES:])
    except msgspec.MsgspecError:
        return None
    return parts if len(parts) == count else None


def _seal(number: int, fields: list[Any]) -> bytes:
    data = _encode(fields)
    return zlib.crc32(data, number & 0xFFFFFFFF).to_bytes(_CRC_BYTES, "little") + data
