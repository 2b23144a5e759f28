"""The limits of this process as they are to be after each task."""

from __future__ import annotations

from tmax_pipes.resource_limits import LIMITS, NUMBERS, getrlimit, limits_now, may_change, setrlimit


class LimitBaseline:
    """What they were, to be compared and put back."""

    def __init__(self) -> None:
        self._known: tuple[tuple[int, int], ...] = ()
        self._values: dict[str, tuple[int, int]] = {}
        self.retake()

    def retake(self) -> None:
        """What they are now is what they are to be."""
        self._values = {name: getrlimit(number) for name, number in LIMITS.items()}
        self._known = limits_now()

    def take_soft(self) -> None:
        """What an import has made of the soft ones is what they are to be; a hard one that it lowered stays wrong, as no next task could raise it."""
        if self.differ():
            now = {name: getrlimit(number) for name, number in LIMITS.items()}
            self._values = {name: limit if limit[1] == self._values[name][1] else self._values[name] for name, limit in now.items()}
            by_number = {LIMITS[name]: limit for name, limit in self._values.items()}
            self._known = tuple(by_number[number] for number in NUMBERS)

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
