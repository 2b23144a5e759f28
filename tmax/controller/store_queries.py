"""Queries to the store, which runs them on its own thread; results are delivered on the loop's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tmax.controller.slices import Steps
from tmax.errors import StoreError, TmaxError
from tmax.reactor import Reactor
from tmax.storage.task_store import Reader, TaskStore

T = TypeVar("T")


class StoreQueries:
    """Runs queries after all commits that were requested before them."""

    def __init__(self, store: TaskStore, reactor: Reactor) -> None:
        self._store = store
        self._reactor = reactor

    def read(self, query: Callable[[Reader], T], done: Callable[[T], None], failed: Callable[[TmaxError], None]) -> None:
        """Run a query; call ``done`` with its result, or ``failed`` with the error."""

        def finished(answer: T | StoreError) -> None:
            if isinstance(answer, StoreError):
                error = answer
                self._reactor.call_soon(lambda: failed(error))
            else:
                result = answer
                self._reactor.call_soon(lambda: done(result))

        self._store.read(query, finished)

    def steps(self, query: Callable[[Reader], T]) -> Steps[T]:
        """Run a query as a step of sliced work, and return its result.  Raises StoreError."""
        answers: list[T | StoreError] = []

        def wait(resume: Callable[[], None]) -> None:
            def finished(answer: T | StoreError) -> None:
                answers.append(answer)
                self._reactor.call_soon(resume)

            self._store.read(query, finished)

        yield wait
        if isinstance(answers[0], StoreError):
            raise answers[0]
        return answers[0]
