"""How long does an array take to a worker and one of its size back, beside multiprocessing.shared_memory and beside the work alone?"""

from __future__ import annotations

import json
import multiprocessing
import sys
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

from tests.bench.figures import Figure, Must, Row
from tests.bench.rounds import Sizes, in_child, in_rounds, seconds_of
from tests.box import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "arrays"


def double(array: Any) -> Any:
    """The work: one pass over the data."""
    return array * 2


class SharedMemoryWorker:
    """A process that doubles what it finds in shared memory; new segments for each array, copied in and copied out."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_double_in_shared_memory, args=(theirs,))
        self._process.start()
        theirs.close()

    def double(self, array: Any) -> Any:
        """Return the array doubled by the worker."""
        import numpy as np

        segments = [SharedMemory(create=True, size=array.nbytes) for _ in range(2)]
        try:
            views: list[Any] = [np.ndarray(array.shape, array.dtype, segment.buf) for segment in segments]
            np.copyto(views[0], array)
            self._connection.send(([segment.name for segment in segments], array.shape, str(array.dtype)))
            self._connection.recv()
            result = views[1].copy()
            del views
            return result
        finally:
            for segment in segments:
                segment.close()
                segment.unlink()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


def _double_in_shared_memory(connection: Any) -> None:
    import numpy as np

    while True:
        try:
            names, shape, dtype = connection.recv()
        except EOFError:
            return
        segments = [SharedMemory(name) for name in names]
        views: list[Any] = [np.ndarray(shape, dtype, segment.buf) for segment in segments]
        np.multiply(views[0], 2, out=views[1])
        del views
        for segment in segments:
            segment.close()
        connection.send(True)


@contextmanager
def shared_memory_worker() -> Iterator[SharedMemoryWorker]:
    """A worker, closed afterwards."""
    worker = SharedMemoryWorker()
    try:
        yield worker
    finally:
        worker.close()


def measure(megabytes: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round."""
    import numpy as np

    from tmax import Swarm

    array = np.random.default_rng(1).random(megabytes * 125_000)
    with Swarm.connect() as swarm, shared_memory_worker() as worker:
        cases = {
            "tmax": lambda: swarm.submit(double, array).result(),
            "shared_memory": lambda: worker.double(array),
            "alone": lambda: double(array),
        }
        for case in cases.values():
            assert (case()[-1] == 2 * array[-1]).all()
        return in_rounds({name: lambda case=case: seconds_of(case) for name, case in cases.items()}, rounds)  # type: ignore[misc]


def run(sizes: Sizes) -> list[Row]:
    """Measure 100 MB in a process of its own."""
    megabytes = sizes.size("megabytes", 100, 2)
    box = Box({"TMAX_SWARM__PRELOAD": "numpy"})
    try:
        box.init(1)
        taken = in_child(box, "bench_arrays", megabytes, sizes.rounds)
    finally:
        box.close()
    what = f"{megabytes} MB to a worker and back"
    ours = tuple(taken["tmax"])
    return [
        Figure(
            what=what,
            unit="s",
            samples=ours,
            peer="shared_memory, copied in and out",
            peer_samples=tuple(taken["shared_memory"]),
            target="P11",
            must=Must(comparison="<=", bound=0.25),
        ),
        Figure(
            what=what,
            unit="s",
            samples=ours,
            peer="the work alone",
            peer_samples=tuple(taken["alone"]),
            target="P11",
            must=Must(comparison="<=", bound=3),
        ),
    ]


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
