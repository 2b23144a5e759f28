"""The errors of a worker."""

from __future__ import annotations


class WorkerError(Exception):
    """Something a worker could not do."""


class Refused(WorkerError):
    """A job that was checked before running and cannot run here: nothing was computed, nothing was changed.

    ``message`` says what is wrong with which value; ``hint`` says what to do about it, and may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:
        return type(self), (self.message, self.hint)
