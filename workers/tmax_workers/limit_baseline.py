"""The resource limits of this process that must hold after each task."""

from __future__ import annotations

from tmax_pipes.resource_limits import LIMITS, NUMBERS, getrlimit, limits_now, may_change, setrlimit


class LimitBaseline:
    """The known limits, to be compared and restored."""

    def __init__(self) -> None:
        self._known: tuple[tuple[int, int], ...] = ()
        self._values: dict[str, tuple[int, int]] = {}
        self.retake()

    def retake(self) -> None:
        """Take the present limits as the known ones."""
        self._values = {name: getrlimit(number) for name, number in LIMITS.items()}
        self._known = limits_now()

    def take_soft(self) -> None:
        """Take soft limits that an import changed as known; a lowered hard limit still differs, because no later task could raise it."""
        if self.differ():
            now = {name: getrlimit(number) for name, number in LIMITS.items()}
            self._values = {name: limit if limit[1] == self._values[name][1] else self._values[name] for name, limit in now.items()}
            by_number = {LIMITS[name]: limit for name, limit in self._values.items()}
            self._known = tuple(by_number[number] for number in NUMBERS)

    def differ(self) -> bool:
        """Whether a limit was changed."""
        return may_change() and limits_now() != self._known

    def put_back(self) -> list[str]:
        """Restore each limit; return the names of those that cannot be restored: a lowered hard limit stays."""
        lost = []
        for name, value in self._values.items():
            try:
                if getrlimit(LIMITS[name]) != value:
                    setrlimit(LIMITS[name], value)
            except (OSError, ValueError):
                lost.append(name)
        return lost
