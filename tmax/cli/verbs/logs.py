"""``logs``: the output of a task, running or ended; for a worker, the content of its pane, or the output of its process."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.codec import encode
from tmax.cli.declaration import ONE_WORD, Option, Verb
from tmax.cli.log_output import pieces_of_output, print_output, report_lost_bytes
from tmax.cli.request import request, request_or_read
from tmax.cli.task_ids import TASK_HELP, one_task_id
from tmax.errors import NoSwarm, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tmax.layout import Layout


def logs(common: output.Common, words: Sequence[str], *, follow: bool = False) -> int:
    """Print the output of a task, or of a worker; with ``follow`` continue until the task has ended.  Raises NotFound, UsageError."""
    if follow and common.json:
        raise UsageError("--follow and --json cannot be given together", hint="--json prints the output so far, as one value")

    def read_store(missing: NoSwarm) -> dict[str, Any]:
        from tmax.cli import offline  # imports the controller's code

        return offline.logs(common, missing, words)

    reply = request_or_read(lambda: _request_logs(common.layout, words[0]), read_store)
    if "worker" in reply and "tail" not in reply and reply.get("file"):
        reply["text"] = _text_of(reply["file"])
    if follow and reply.get("task") and (reply.get("live") or "text" in reply):
        from tmax.cli.follow import follow as follow_task  # imports ctypes

        follow_task(common, reply["task"])
        return 0
    if common.json:
        _print_json(reply)
    elif "text" in reply:
        output.write(reply["text"].rstrip("\n") + "\n")
    else:
        print_output(reply)
        report_lost_bytes(reply)
    return 0


def _request_logs(layout: Layout, word: str) -> dict[str, Any]:
    """Return the reply about the worker of this name if there is one, else about the task that the word selects."""
    if word.isascii() and word.isdigit():
        return request(layout, "logs", target=int(word))
    if word.startswith("@"):
        return request(layout, "logs", target=one_task_id(layout, word))
    try:
        return request(layout, "logs", target=word)
    except NotFound:
        pass  # not a worker: perhaps a task's name
    try:
        task = one_task_id(layout, word)
    except NotFound as missing:
        raise NotFound(f"no worker {word!r}, and {missing.message}", hint="tmax workers and tmax ps --all list them") from None
    return request(layout, "logs", target=task)


def _text_of(path: str) -> str:
    """Return what a worker's process printed; it may have ended, and its file been removed, a moment ago."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _print_json(reply: dict[str, Any]) -> None:
    """Print the reply as JSON with the output as text, piece by piece: the output may be larger than memory."""
    kept = {key: one for key, one in reply.items() if key not in {"ok", "tail", "wanted_file"}}
    if "tail" not in reply:
        output.write_json({"schema_version": output.SCHEMA_VERSION, **kept})
        return
    import codecs  # already imported by the interpreter's start

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    output.write(encode({"schema_version": output.SCHEMA_VERSION, **kept})[:-1] + ', "output": "')
    for data in pieces_of_output(reply):
        output.write(encode(decoder.decode(data))[1:-1])
    output.write(encode(decoder.decode(b"", final=True))[1:-1] + '"}\n')


VERB = Verb(
    "logs",
    logs,
    usage="TASK|WORKER",
    words=ONE_WORD,
    options=(Option("follow", "-f", "--follow", help="Print new output as it appears, until the task has ended."),),
    help=f"""Print the output of a task or a worker.

    Of a worker: the content of its pane, or what its process printed where it has none.  The task may be running or ended.

    {TASK_HELP}""",
    examples=(("tmax logs -f @", "follow the last task until it ends"), ("tmax logs w2", "the content of worker w2's pane")),
)
