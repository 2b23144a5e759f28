"""Results whose classes belong to the program that submitted the task, as the command line shows them."""

from __future__ import annotations

import pickle
import sys

import pytest

from tmax.cli.standins import StandInUnpickler


class Color:
    """A member is pickled as an attribute of its class, as enums of Python 3.11.2 are."""

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (Color, "RED")


class Made:
    """Made again by a method of its class, as many a class with a constructor of another kind."""

    def __reduce__(self) -> tuple[object, ...]:
        return Made.of, (1, "x")

    @classmethod
    def of(cls, *_given: object) -> Made:
        return cls()


def shown(value: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the text for a value of a program that is not this one."""
    main = sys.modules["__main__"]
    for one in (Color, Made):
        monkeypatch.setattr(one, "__module__", "__main__")
        monkeypatch.setattr(main, one.__name__, one, raising=False)
    data = pickle.dumps(value)
    for one in (Color, Made):
        monkeypatch.delattr(main, one.__name__)
    return repr(StandInUnpickler(data).load())


def test_a_member_of_a_class_is_shown_by_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown({"best": Color()}, monkeypatch) == "{'best': Color.RED}"


def test_an_object_made_by_a_method_of_its_class_is_shown_with_what_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(Made(), monkeypatch) == "Made.of(1, 'x')"


def test_a_class_is_shown_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown([Color], monkeypatch) == "[Color]"
