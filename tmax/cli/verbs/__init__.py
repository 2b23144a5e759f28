"""The table of verbs: which file declares which.  A file is imported when its verb is needed.

To add a verb: a file here that ends with ``VERB = Verb(...)``, and its line in the table.
"""

from __future__ import annotations

import sys

from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmax.cli.declaration import Verb

FILES = {
    "init": "init",
    "up": "up",
    "down": "down",
    "status": "status",
    "workers": "workers",
    "ps": "ps",
    "submit": "submit",
    "run": "run",
    "kernel": "kernel_verb",
    "wait": "wait",
    "result": "result",
    "logs": "logs",
    "cancel": "cancel_verb",
    "attach": "attach",
    "hold": "hold",
    "resume": "resume",
    "tmux": "tmux_verb",
    "doctor": "doctor",
    "bench": "bench_verb",
}
"""By verb, in the order of the help: the module of this package that declares it."""
DEFAULT = "status"
"""What ``tmax`` without a verb does."""


def verb_named(name: str) -> Verb:
    """Return a verb.  Raises UsageError, with the nearest verb as its hint, for an unknown one."""
    if name not in FILES:
        raise _unknown(name)
    path = f"{__name__}.{FILES[name]}"
    __import__(path)  # importlib would be one import more
    verb: Verb = sys.modules[path].VERB
    return verb


def all_verbs() -> list[Verb]:
    """Return every verb, in the order of the help."""
    return [verb_named(name) for name in FILES]


def _unknown(name: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(name, FILES, n=1)
    return UsageError(f"unknown verb {name!r}", hint=f"did you mean: tmax {near[0]}" if near else "tmax --help lists the verbs")
