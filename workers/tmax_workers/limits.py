"""The limits of this process as they are to be after each task."""

from __future__ import annotations

from tmax_pipes.resource_limits import LIMITS, getrlimit, limits_now, may_change, setrlimit


class KnownLimits:
    """What they were, to be compared and put back."""

    def __init__(self) -> None:
        self._known: tuple[tuple[int, int], ...] = ()
        self._values: dict[str, tuple[int, int]] = {}
        self.retake()

    def retake(self) -> None:
        """What they are now is what they are to be."""
        self._values = {name: getrlimit(number) for name, number in LIMITS.items()}
        self._known = limits_now()

    def differ(self) -> bool:
        """Whether one was changed."""
        return may_change() and limits_now() != self._known

    def put_back(self) -> list[str]:
        """Set each to what it was; return the names of those that cannot be: a hard limit that was lowered stays so."""
        lost = []
        for name, value in self._values.items():
            try:
                if getrlimit(LIMITS[name]) != value:
                    setrlimit(LIMITS[name], value)
            except (OSError, ValueError):
                lost.append(name)
        return lost
