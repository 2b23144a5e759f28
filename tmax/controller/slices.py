"""Long work on the loop's thread, done in slices so that nobody waits for it.

    run(steps) --> slice: next(steps) until SLICE_S is over --> the loop turns once --> next slice ... --> StopIteration
                     a step that yields a Wait: others have their slices until it calls back

Work is a generator.  It yields None where it may be interrupted, and a ``Wait`` where it needs something first: a read of the store,
a commit, a reader that is behind.  Between two yields nothing else happens, so what is looked at there fits together.
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
"""The longest stretch of one slice, as far as its steps are short."""

Wait: TypeAlias = Callable[[Callable[[], None]], object]
"""Takes what is to be called, on the loop's thread, when the work may go on; also at once."""
Steps: TypeAlias = Generator[Wait | None, None, T]

_log = logging.getLogger("tmax.controller")


class _Job:
    __slots__ = ("failed", "steps", "wanted")

    def __init__(self, steps: Steps[None], failed: Callable[[TmaxError], None], wanted: Callable[[], bool]) -> None:
        self.steps = steps
        self.failed = failed
        self.wanted = wanted


class Slicer:
    """Gives each work a slice in turn, one slice for each turn of the loop however many there are."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._jobs: deque[_Job] = deque()
        self._awake = False

    def run(self, steps: Steps[None], failed: Callable[[TmaxError], None], wanted: Callable[[], bool] = lambda: True) -> None:
        """Begin at once and go on in slices; ``failed`` gets the error that ends it; it is dropped when ``wanted`` says no."""
        self._go_on(_Job(steps, failed, wanted))

    def _go_on(self, job: _Job) -> None:
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
                    wait(lambda: self._go_on(job))
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
            # A defect of ours in one answer must not end the swarm; who asked gets an answer, the log the traceback.
            _log.exception("work in slices")
            job.failed(TmaxError("internal error; the controller's log has it"))
