"""What the zygote, its stubs and the controller say to each other.  Pure.

One socket serves both.  A controller says JSON lines.  A stub says one request: ``S``, the length of the body (u32, big-endian),
the body: count of the command's words, the words, then NAME=VALUE..., all divided by NUL; with it come four descriptors.
A stub is answered in lines: ``hello``, then ``forked PID`` | ``refused WHY`` | ``gone WHY``, then ``exit N`` | ``signal N``.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

VERSION = 2
"""Of this vocabulary; a controller replaces a zygote that speaks another one."""

REQUEST_BYTES = 8 * 1024 * 1024
"""Longest body of a request; the kernel's own limit for a command and its environment is below it."""
DESCRIPTORS = 4
"""Standard input, output and error of the worker, and the folder it starts in."""

_HEAD = struct.Struct(">cI")


# -- controller to zygote -------------------------------------------------------------------------


class RequestStatus(msgspec.Struct, frozen=True, tag="greet"):
    """Say who you are (``Ready``), and what you have kept."""


class CancelFork(msgspec.Struct, frozen=True, tag="cancel"):
    """This life is not wanted: kill its process when there is one, else never fork it."""

    life: int


class Acknowledge(msgspec.Struct, frozen=True, tag="heard"):
    """The end of this life was read; it need not be told again."""

    life: int


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """Fork no more; end when the last child has ended."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """End now.  Children live on."""


class RenewSocket(msgspec.Struct, frozen=True, tag="listen"):
    """Your socket was removed: make it again.  SIGUSR1 says the same, as to tmux, when nobody can connect any more."""


ToZygote: TypeAlias = RequestStatus | CancelFork | Acknowledge | Retire | End | RenewSocket

# -- zygote to controller -------------------------------------------------------------------------


class Child(msgspec.Struct, frozen=True):
    """A worker that lives."""

    life: int
    pid: int
    ticks: int
    """Start time of the process in clock ticks since boot: pid + ticks is its identity."""


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A worker has ended, as ``wait4`` told its parent; kept, and said again in ``Ready``, until a controller says ``Heard``."""

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
    """``own_code.fingerprint()`` when it started."""
    python: str
    """Path of its interpreter."""
    wanted: tuple[str, ...]
    """Modules it was told to import."""
    modules: dict[str, str]
    """Those it could import, with their versions."""
    missing: tuple[str, ...]
    """Those it could not, as ``name: reason``."""
    broken: str = ""
    """Why it cannot fork at all; empty: it can."""
    children: tuple[Child, ...] = ()
    ended: tuple[Ended, ...] = ()
    """Ends that no controller has ``Heard`` yet."""


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """This life has a process now."""

    life: int
    pid: int
    ticks: int


class NotForked(msgspec.Struct, frozen=True, tag="not-forked"):
    """This life has no process of ours; unless it was cancelled, its stub starts it by exec."""

    life: int
    why: str


class Stale(msgspec.Struct, frozen=True, tag="stale"):
    """These files were imported and have changed since: it forks no more, start another one."""

    files: tuple[str, ...]


FromZygote: TypeAlias = ZygoteReady | Forked | NotForked | Stale | Ended

_encoder = msgspec.json.Encoder()
_to_zygote: msgspec.json.Decoder[ToZygote] = msgspec.json.Decoder(ToZygote)
_from_zygote: msgspec.json.Decoder[FromZygote] = msgspec.json.Decoder(FromZygote)


def line_of(message: ToZygote | FromZygote) -> bytes:
    """Return a message as its line."""
    return _encoder.encode(message) + b"\n"


def to_zygote(line: bytes) -> ToZygote:
    """Return what a controller said; msgspec.DecodeError for anything else."""
    return _to_zygote.decode(line)


def from_zygote(line: bytes) -> FromZygote:
    """Return what a zygote said; msgspec.DecodeError for anything else."""
    return _from_zygote.decode(line)


# -- stub to zygote -------------------------------------------------------------------------------


class BadRequest(ValueError):
    """Bytes that are no request of a stub."""


class ForkRequest(msgspec.Struct, frozen=True):
    """The worker a stub asks for: its whole command line and its whole environment."""

    argv: tuple[bytes, ...]
    env: dict[bytes, bytes]


def request_in(data: bytes | bytearray) -> ForkRequest | None:
    """Return the request in ``data``; None when it is not whole yet.  BadRequest when it can never be one."""
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
