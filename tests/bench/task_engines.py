"""Rates of one way to run Python tasks, measured in this process, which then prints them as JSON.

``python -m tests.bench.task_engines ENGINE TASKS SINGLES CHUNK``
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WORKERS = 2


def nothing(number: int) -> int:
    """The no-op."""
    return number


class PoolEngine:
    """An executor of the standard library's kind."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def many(self, count: int) -> list[Any]:
        """Submit so many tasks one by one and return their results."""
        return [future.result() for future in [self._pool.submit(nothing, number) for number in range(count)]]

    def chunked(self, count: int, chunk: int) -> list[Any] | None:
        """Map over so many items in chunks; None where there is no such thing."""
        return list(self._pool.map(nothing, range(count), chunksize=chunk))


class MultiprocessingEngine:
    """``multiprocessing.Pool``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def many(self, count: int) -> list[Any]:
        """As PoolEngine.many."""
        return [result.get() for result in [self._pool.apply_async(nothing, (number,)) for number in range(count)]]

    def chunked(self, count: int, chunk: int) -> list[Any]:
        """As PoolEngine.chunked."""
        return list(self._pool.map(nothing, range(count), chunksize=chunk))


class RayEngine:
    """Ray's remote functions."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._remote = ray.remote(nothing)

    def many(self, count: int) -> list[Any]:
        """As PoolEngine.many."""
        results: list[Any] = self._ray.get([self._remote.remote(number) for number in range(count)])
        return results

    def chunked(self, count: int, chunk: int) -> None:
        """None: Ray has no map in chunks."""


class DaskEngine:
    """Futures of Dask distributed."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def many(self, count: int) -> list[Any]:
        """As PoolEngine.many."""
        results: list[Any] = self._client.gather([self._client.submit(nothing, number, pure=False) for number in range(count)])
        return results

    def chunked(self, count: int, chunk: int) -> None:
        """None: its map makes a task of each item."""


@contextmanager
def tmax() -> Iterator[Any]:
    """The swarm of the environment."""
    from tmax import Swarm

    with Swarm.connect() as swarm:
        yield PoolEngine(swarm)


@contextmanager
def process_pool() -> Iterator[Any]:
    """The standard library's executor."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        yield PoolEngine(pool)


@contextmanager
def multiprocessing_pool() -> Iterator[Any]:
    """The standard library's pool."""
    import multiprocessing

    with multiprocessing.Pool(WORKERS) as pool:
        yield MultiprocessingEngine(pool)


@contextmanager
def loky() -> Iterator[Any]:
    """The reusable executor of joblib."""
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        yield PoolEngine(pool)


@contextmanager
def ray() -> Iterator[Any]:
    """A local Ray without its dashboard."""
    import ray as module

    module.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield RayEngine(module)
    finally:
        module.shutdown()


@contextmanager
def distributed() -> Iterator[Any]:
    """A local Dask cluster of processes without its dashboard."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield DaskEngine(client)


ENGINES: dict[str, Callable[[], Any]] = {
    "tmax": tmax,
    "ProcessPoolExecutor": process_pool,
    "multiprocessing.Pool": multiprocessing_pool,
    "loky": loky,
    "ray": ray,
    "distributed": distributed,
}


def rates(engine: Any, tasks: int, singles: int, chunk: int) -> dict[str, float | None]:
    """Return tasks/s of single submits, items/s of a chunked map, and the median seconds of one task at a time."""
    engine.many(min(tasks, 200))
    begun = time.perf_counter()
    assert engine.many(tasks) == list(range(tasks))
    single = tasks / (time.perf_counter() - begun)
    begun = time.perf_counter()
    mapped = engine.chunked(10 * tasks, chunk)
    chunked = 10 * tasks / (time.perf_counter() - begun) if mapped is not None else None
    taken = []
    for _ in range(singles):
        begun = time.perf_counter()
        engine.many(1)
        taken.append(time.perf_counter() - begun)
    return {"single": single, "chunked": chunked, "latency_s": statistics.median(taken)}


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    with ENGINES[name]() as opened:
        print("\n" + json.dumps(rates(opened, *map(int, numbers))))
