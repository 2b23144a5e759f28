"""Checks task names: every verb must read the word as a name and as nothing else."""

from __future__ import annotations

from tmax.errors import UsageError

MAX_CHARACTERS = 200


def check_task_name(name: str) -> str:
    """Return ``name`` when it is a valid task name; raise UsageError otherwise."""
    why = _wrong(name)
    if why:
        shown = name if len(name) <= MAX_CHARACTERS else f"{name[:40]}..."
        raise UsageError(f"a task cannot be named {shown!r}: {why}", hint="begin a name with a letter, for example: build-3")
    return name


def _wrong(name: str) -> str:
    """Return what is wrong with a name; empty when nothing is."""
    if not name:
        return "it is empty"
    if len(name) > MAX_CHARACTERS:
        return f"it has {len(name)} characters, and {MAX_CHARACTERS} are allowed"
    if name != name.strip():
        return "it begins or ends with a blank"
    if any(_is_control(character) for character in name):
        return "it holds a control character or a byte that is not UTF-8"
    return _other_meaning(name)


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029" or "\ud800" <= character <= "\udfff"


def _other_meaning(name: str) -> str:
    """Return what else verbs would read this word as; empty when they read it as a name."""
    if name.startswith("-"):
        return "it would be read as an option"
    if name.startswith("@"):
        return "@ means the last task"
    if _is_number(name):
        return "it would be read as the number of a task"
    first, dash, last = name.partition("-")
    if dash and _is_number(first) and _is_number(last):
        return "it would be read as a range of tasks"
    if name == "dashboard" or (name.startswith("w") and _is_number(name[1:])) or (first in {"pool", "old"} and _is_number(last)):
        return "it would be read as the name of a worker or of the dashboard"
    return ""


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()
