"""Base classes of a worker's errors."""

from __future__ import annotations


class WorkerError(Exception):
    """Base of a worker's own errors.

    ``message`` names what is wrong and with which value; ``hint`` is what to do about it, and may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __reduce__(self) -> tuple[type[WorkerError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class Refused(WorkerError):
    """A job that cannot run here, by a check before it ran: nothing was computed or changed."""
