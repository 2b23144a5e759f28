"""The messages between the zygote, its stubs and the controller.  Pure.

One socket serves both.  A controller sends JSON lines.  A stub sends one request: ``S``, the length of the body (u32, big-endian),
the body: number of the command's arguments, the arguments, then NAME=VALUE..., separated by NUL; with it four descriptors.
The answers to a stub are lines: ``hello``, then ``forked PID`` | ``refused WHY`` | ``gone WHY``, then ``exit N`` | ``signal N``.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

VERSION = 2
"""Version of these messages; a controller replaces a zygote with another version."""

REQUEST_BYTES = 8 * 1024 * 1024
"""Longest body of a request; the kernel's own limit for a command and its environment is below it."""
DESCRIPTORS = 4
"""Standard input, output and error of the worker, and the folder it starts in."""

_HEAD = struct.Struct(">cI")


# -- controller to zygote -------------------------------------------------------------------------


class RequestStatus(msgspec.Struct, frozen=True, tag="greet"):
    """Answer with ``ZygoteReady``, which includes the ends that no controller has acknowledged."""


class CancelFork(msgspec.Struct, frozen=True, tag="cancel"):
    """Kill this life's process if there is one, else never fork it."""

    life: int


class Acknowledge(msgspec.Struct, frozen=True, tag="heard"):
    """The end of this life was received; do not repeat it."""

    life: int


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """Fork no more; end when the last child has ended."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """End now.  Children keep running."""


class RenewSocket(msgspec.Struct, frozen=True, tag="listen"):
    """Make the removed socket again.  SIGUSR1 requests the same, as for tmux, from a process that cannot connect."""


ToZygote: TypeAlias = RequestStatus | CancelFork | Acknowledge | Retire | End | RenewSocket

# -- zygote to controller -------------------------------------------------------------------------


class Child(msgspec.Struct, frozen=True):
    """A live worker."""

    life: int
    pid: int
    ticks: int
    """Start time of the process in clock ticks since boot: pid + ticks is its identity."""


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A worker has ended, as ``wait4`` reported it; repeated in ``ZygoteReady`` until a controller sends ``Acknowledge``."""

    life: int
    pid: int
    signal: int | None
    status: int | None
    peak_rss_bytes: int


class ZygoteReady(msgspec.Struct, frozen=True, tag="ready"):
    """Everything is imported."""

    pid: int
    version: int
    code: str
    """``code_fingerprint.fingerprint()`` when it started."""
    python: str
    """Path of its interpreter."""
    wanted: tuple[str, ...]
    """Modules it had to import."""
    modules: dict[str, str]
    """Those it could import, with their versions."""
    missing: tuple[str, ...]
    """Those it could not, as ``name: reason``."""
    broken: str = ""
    """Why it cannot fork; empty: it can."""
    children: tuple[Child, ...] = ()
    ended: tuple[Ended, ...] = ()
    """Ends that no controller has acknowledged yet."""


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """This life's process was forked."""

    life: int
    pid: int
    ticks: int


class NotForked(msgspec.Struct, frozen=True, tag="not-forked"):
    """This life was not forked; unless it was cancelled, its stub starts it by exec."""

    life: int
    why: str


class Stale(msgspec.Struct, frozen=True, tag="stale"):
    """These imported files have changed: this zygote forks no more, start another one."""

    files: tuple[str, ...]


FromZygote: TypeAlias = ZygoteReady | Forked | NotForked | Stale | Ended

_encoder = msgspec.json.Encoder()
_to_zygote: msgspec.json.Decoder[ToZygote] = msgspec.json.Decoder(ToZygote)
_from_zygote: msgspec.json.Decoder[FromZygote] = msgspec.json.Decoder(FromZygote)


def line_of(message: ToZygote | FromZygote) -> bytes:
    """Return a message as a line of JSON."""
    return _encoder.encode(message) + b"\n"


def to_zygote(line: bytes) -> ToZygote:
    """Decode a controller's line.  Raises msgspec.DecodeError."""
    return _to_zygote.decode(line)


def from_zygote(line: bytes) -> FromZygote:
    """Decode a zygote's line.  Raises msgspec.DecodeError."""
    return _from_zygote.decode(line)


# -- stub to zygote -------------------------------------------------------------------------------


class BadRequest(ValueError):
    """Bytes that are not a valid request of a stub."""


class ForkRequest(msgspec.Struct, frozen=True):
    """A stub's request: the complete command line and environment of its worker."""

    argv: tuple[bytes, ...]
    env: dict[bytes, bytes]


def request_in(data: bytes | bytearray) -> ForkRequest | None:
    """Return the request in ``data``; None when it is incomplete.  Raises BadRequest when it is malformed."""
    if len(data) < _HEAD.size:
        return None
    kind, size = _HEAD.unpack_from(data)
    if kind != b"S" or size > REQUEST_BYTES:
        raise BadRequest(f"kind {kind!r}, {size} bytes")
    if len(data) < _HEAD.size + size:
        return None
    count, *arguments = bytes(data[_HEAD.size : _HEAD.size + size]).split(b"\0")
    if not count.isdigit() or not 0 < int(count) <= len(arguments):
        raise BadRequest(f"{count!r} words of {len(arguments)}")
    env = dict(argument.split(b"=", 1) for argument in arguments[int(count) :] if b"=" in argument)
    return ForkRequest(tuple(arguments[: int(count)]), env)
