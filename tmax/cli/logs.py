"""``logs``: what a task printed, dead or alive; for a worker, what its pane shows, or what its process printed."""

from __future__ import annotations

from binascii import a2b_base64

from tmax.cli import output
from tmax.cli.ask import ask, ask_or_read
from tmax.cli.codec import encode
from tmax.cli.ends import ids_of
from tmax.errors import NoSwarm, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CHUNK_BYTES = 1 << 20


def logs(common: output.Common, words: Sequence[str], *, follow: bool = False) -> int:
    """Print the output of a task, or of a worker; with ``follow`` go on until the task has ended."""
    if follow and common.json:
        raise UsageError("--follow and --json cannot be given together")

    def read(missing: NoSwarm) -> dict[str, Any]:
        from tmax.cli import offline

        return offline.logs(common, missing, words)

    answer = ask_or_read(lambda: _found(common, words[0]), read)
    if "worker" in answer and "tail" not in answer and answer.get("file"):
        answer["text"] = _text_of(answer["file"])
    if follow and answer.get("task") and (answer.get("live") or "text" in answer):
        from tmax.cli.follow import follow as follow_task

        follow_task(common, answer["task"])
        return 0
    if common.json:
        _say_json(answer)
    elif "text" in answer:
        output.out(answer["text"].rstrip("\n") + "\n")
    else:
        print_output(answer)
        say_lost(answer)
    return 0


def _found(common: output.Common, word: str) -> dict[str, Any]:
    """Ask about a worker of this name if there is one, else about the task that the word means."""
    if word.isascii() and word.isdigit():
        return ask(common.layout, "logs", target=int(word))
    if not word.startswith("@"):
        try:
            return ask(common.layout, "logs", target=word)
        except NotFound:
            pass  # not a worker: perhaps a task's name
    try:
        found = ids_of(common, [word])
    except NotFound as missing:
        if word.startswith("@"):
            raise
        raise NotFound(f"no worker {word!r}, and {missing.message}", hint="tmax workers and tmax ps --all list them") from None
    if len(found) != 1:
        raise UsageError(f"{word} means {len(found)} tasks", hint="logs shows one")
    return ask(common.layout, "logs", target=found[0])


def _text_of(path: str) -> str:
    """Return what a worker's process printed; it may have ended, and its file been removed, a moment ago."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _say_json(answer: dict[str, Any]) -> None:
    """Write the answer for a program: where the output lies, and the output as text, piece by piece: it may be larger than memory."""
    kept = {key: one for key, one in answer.items() if key not in {"ok", "tail", "wanted_file"}}
    if "tail" not in answer:
        output.value({"schema_version": output.SCHEMA_VERSION, **kept})
        return
    import codecs  # the interpreter has imported it as it started

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    output.out(encode({"schema_version": output.SCHEMA_VERSION, **kept})[:-1] + ', "output": "')
    for data in output_of(answer):
        output.out(encode(decoder.decode(data))[1:-1])
    output.out(encode(decoder.decode(b"", final=True))[1:-1] + '"}\n')


def output_of(answer: dict[str, Any]) -> Any:
    """Yield the output in pieces: from the log file, or the short output that the row holds."""
    if not answer["file"]:
        yield a2b_base64(answer["tail"])
        return
    try:
        with open(answer["file"], "rb", buffering=0) as file:
            while data := file.read(_CHUNK_BYTES):
                yield data
    except FileNotFoundError:
        yield a2b_base64(answer["tail"])  # it was short, and has moved into the row meanwhile


def say_lost(answer: dict[str, Any]) -> None:
    """Say how much of the output is nowhere."""
    if answer.get("lost_bytes"):
        output.warn(f"note: {answer['lost_bytes']} bytes that the task printed are not in its log: there was no room")


def print_output(answer: dict[str, Any]) -> None:
    """Write the output to stdout, as the task wrote it."""
    for data in output_of(answer):
        output.out_bytes(data)
