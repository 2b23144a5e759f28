"""The command line of a worker.  Parsed by hand: argparse costs more than the rest of a worker's start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tmax_workers.worker_errors import WorkerError

USAGE = "python -P -m tmax_workers --life N --rt FOLDER --state FOLDER --control SOCKET [--preload a,b] [--threads N] [--orphan-ttl-s S] [--connections N]"


class BadOptions(WorkerError):
    """The command line is wrong.  The controller writes it, never a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one worker process."""

    life: int
    """Number of this process in its swarm; never reused."""
    rt: str
    """Private, existing folder in which FIFOs and their records are published."""
    state: str
    """The swarm's state folder; ``logs`` and ``blobs`` in it are made when missing."""
    control: str
    """Path of the controller's Unix socket."""
    preload: tuple[str, ...] = ()
    """Modules imported before work arrives."""
    threads: int = 1
    """BLAS and torch threads until ``Who`` sets them."""
    orphan_ttl_s: float = 900.0
    """How long to live without a controller."""
    connections: int = 0
    """Connections that this process had made before it restarted itself (``bare_restart.py``)."""

    @property
    def logs(self) -> str:
        """Folder of the tasks' logs."""
        return f"{self.state}/logs"

    @property
    def blobs(self) -> str:
        """Folder of bodies that do not fit a frame."""
        return f"{self.state}/blobs"


def parse(argv: Sequence[str]) -> Options:
    """Return the options in ``argv`` (without the program's name); raises BadOptions, which names what is wrong."""
    given: dict[str, str] = {}
    rest = list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals:
            if not rest:
                raise BadOptions(f"{name} needs a value")
            value = rest.pop(0)
        given[name] = value
    missing = [name for name in ("--life", "--rt", "--state", "--control") if not given.get(name)]
    unknown = given.keys() - {"--life", "--rt", "--state", "--control", "--preload", "--threads", "--orphan-ttl-s", "--connections"}
    if missing or unknown:
        raise BadOptions(f"missing {missing}, unknown {sorted(unknown)}")
    try:
        return Options(
            life=int(given["--life"]),
            rt=given["--rt"],
            state=given["--state"],
            control=given["--control"],
            preload=tuple(name for name in given.get("--preload", "").split(",") if name),
            threads=max(1, int(given.get("--threads", "1"))),
            orphan_ttl_s=float(given.get("--orphan-ttl-s", "900")),
            connections=int(given.get("--connections", "0")),
        )
    except ValueError as error:
        raise BadOptions(str(error)) from error
