"""Where the processes of workers are placed: the seam between the FIFOs, which all process engines share, and tmux or plain processes.

::

    FifoEngine: create([NewProcess]) --> host starts them --> created(life, pid, "") --> watched through a pidfd from then on
    FifoEngine: end_of(life), last_output(life)           --> called once, after the pidfd has reported the end

A host knows nothing of FIFOs, messages and tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tmax.engines.process_end import ProcessEnd
from tmax.engines.terminals import Terminals

OnCreated: TypeAlias = Callable[[int, int, str], None]
OnEnd: TypeAlias = Callable[[ProcessEnd | None], None]

DEAD_KEPT = 3
"""Sessions, or output files, of so many ended workers are kept for people to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProcess:
    """One process to be started; the command is ours, no part of it comes from a user."""

    life: int
    name: str
    """Of its worker."""
    argv: Sequence[str]
    env: Mapping[str, str]
    """Added to the host's environment."""
    is_worker: bool = True
    """False: it stands in for a worker that is forked elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedProcess:
    """A process that a host found when it was opened."""

    pid: int
    dead: bool
    life: int
    """0: it is of no life."""
    name: str


class Host(Protocol):
    """Places processes.  Called on the loop's thread; nothing but ``open`` and ``close`` may block."""

    @property
    def terminals(self) -> Terminals | None:
        """The terminals of the processes; None: they have none."""

    @property
    def sockets(self) -> Sequence[str]:
        """Paths of the sockets by which a server of this host is found again."""

    def open(self, on_paneless: Callable[[list[int]], None]) -> list[HostedProcess]:
        """Get ready; return the processes that are there.  Raises TmaxError with a hint when that is impossible.

        ``on_paneless(lives)`` is called when these lives have lost their terminals.
        """

    def reopen(self) -> list[str]:
        """Make again what was removed from the runtime folder, which exists; return the names of what was made."""

    def create(self, wanted: Sequence[NewProcess], created: OnCreated) -> None:
        """Start these, in one batch; ``created(life, pid or 0, complaint)`` is called for each, never from within this call."""

    def take(self, life: int, found: HostedProcess, name: str) -> None:
        """Take over a process of an earlier controller as that of ``life``, whose worker has this name now."""

    def forget_others(self, known: set[int]) -> None:
        """End or clear away what was found at ``open`` and is of no life in ``known``; called once, after ``take``."""

    def rename(self, life: int, name: str) -> None:
        """The worker of this life has another name now."""

    def session_name(self, life: int) -> str:
        """Return the session of this life; empty when it has none."""

    def output_file(self, life: int) -> str:
        """Return the path of the file with what the process printed; empty: there is none."""

    def trim_output(self, life: int) -> None:
        """Keep the output of this life within bounds; called from time to time while it works."""

    def end_of(self, life: int, answer: OnEnd) -> None:
        """Call ``answer`` once and soon with how the process ended; with None when the host cannot know."""

    def last_output(self, life: int, answer: Callable[[str], None], *, lines: int) -> None:
        """Call ``answer`` once with the last lines that the process printed."""

    def retire(self, life: int) -> None:
        """This life has ended: free its name; what it printed is kept for the last DEAD_KEPT lives."""

    def close(self, *, everything: bool) -> None:
        """Release the host; with ``everything`` end all that it made, and remove its files.  Twice is harmless."""
