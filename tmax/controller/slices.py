"""Cooperative scheduling of long work on the loop's thread, in slices, so that other clients do not wait for it.

    run(steps) --> slice: next(steps) until SLICE_S is over --> one turn of the loop --> next slice ... --> StopIteration
                     a step that yields a Wait: other work has its slices until it calls back

Work is a generator.  It yields None where it may be interrupted, and a ``Wait`` where it must wait: for a read of the store,
a commit, or a slow client.  Between two yields no other code runs, so the state that it reads there is consistent.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from tmax.errors import TmaxError
from tmax.reactor import Reactor

T = TypeVar("T")

SLICE_S = 0.002
"""Length of one slice; a slice is longer only by its last step."""

Wait: TypeAlias = Callable[[Callable[[], None]], object]
"""Takes the callback to call, on the loop's thread, when the work may continue; it may call it at once."""
Steps: TypeAlias = Generator[Wait | None, None, T]

_log = logging.getLogger("tmax.controller")


class _Job:
    __slots__ = ("failed", "steps", "wanted")

    def __init__(self, steps: Steps[None], failed: Callable[[TmaxError], None], wanted: Callable[[], bool]) -> None:
        self.steps = steps
        self.failed = failed
        self.wanted = wanted


class Slicer:
    """Runs pieces of work round robin, one slice in each turn of the loop."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._jobs: deque[_Job] = deque()
        self._awake = False

    def run(self, steps: Steps[None], failed: Callable[[TmaxError], None], wanted: Callable[[], bool] = lambda: True) -> None:
        """Begin at once and continue in slices.  ``failed`` gets the error that ends the work; it is dropped when ``wanted`` returns False."""
        self._resume(_Job(steps, failed, wanted))

    def _resume(self, job: _Job) -> None:
        self._jobs.append(job)
        if not self._awake:
            self._awake = True
            self._slice()

    def _slice(self) -> None:
        try:
            self._advance(self._jobs.popleft())
        finally:
            if self._jobs:
                self._reactor.call_soon(self._slice)
            else:
                self._awake = False

    def _advance(self, job: _Job) -> None:
        end_s = self._reactor.now() + SLICE_S
        try:
            while job.wanted():
                wait = next(job.steps)
                if wait is not None:
                    wait(lambda: self._resume(job))
                    return
                if self._reactor.now() >= end_s:
                    self._jobs.append(job)
                    return
            job.steps.close()
        except StopIteration:
            pass
        except TmaxError as error:
            job.failed(error)
        except Exception:
            # A defect in one reply must not end the controller: the client gets an error, the log the traceback.
            _log.exception("work in slices")
            job.failed(TmaxError("internal error; the controller's log has it"))
