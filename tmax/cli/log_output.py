"""A task's output from where it is kept: its log file, or the last bytes in its row."""

from __future__ import annotations

from binascii import a2b_base64

from tmax.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CHUNK_BYTES = 1 << 20


def pieces_of_output(reply: dict[str, Any]) -> Iterator[bytes]:
    """Yield the output that a reply to ``logs`` refers to, in pieces of at most 1 MiB."""
    if not reply["file"]:
        yield a2b_base64(reply["tail"])
        return
    try:
        with open(reply["file"], "rb", buffering=0) as file:
            while data := file.read(_CHUNK_BYTES):
                yield data
    except FileNotFoundError:
        yield a2b_base64(reply["tail"])  # short output moves from the file into the row when the task ends


def print_output(reply: dict[str, Any]) -> None:
    """Write the output to stdout as the task wrote it."""
    for data in pieces_of_output(reply):
        output.write_bytes(data)


def report_lost_bytes(reply: dict[str, Any]) -> None:
    """Write a note to stderr when part of the output could not be logged."""
    if reply.get("lost_bytes"):
        output.write_message(
            f"note: {reply['lost_bytes']} bytes of the task's output are missing from its log, which could not be written (no space left)"
        )
