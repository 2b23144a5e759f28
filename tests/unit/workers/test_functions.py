"""A function that goes by its name is the one a look by that name finds at that moment."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tmax_workers.kinds.functions import FunctionCache


def module_with(value: int) -> ModuleType:
    made = ModuleType("named_here")
    exec(f"def f():\n    return {value}\n", made.__dict__)
    return made


@pytest.fixture
def named() -> Iterator[ModuleType]:
    sys.modules["named_here"] = made = module_with(1)
    yield made
    sys.modules.pop("named_here", None)


def body_of(function: Callable[[], Any]) -> bytes:
    return pickle.dumps(function, 5)


def test_it_is_the_same_object_each_time(named: ModuleType) -> None:
    cache, body = FunctionCache(), body_of(named.f)
    assert [cache.load(body, "") for _ in range(3)] == [named.f] * 3


def test_a_global_that_was_replaced_is_heard(named: ModuleType) -> None:
    cache, body = FunctionCache(), body_of(named.f)
    cache.load(body, "")
    exec("def f():\n    return 2\n", named.__dict__)
    assert cache.load(body, "")() == 2


def test_a_module_that_was_imported_anew_is_heard(named: ModuleType) -> None:
    cache, body = FunctionCache(), body_of(named.f)
    cache.load(body, "")
    sys.modules["named_here"] = module_with(3)
    assert cache.load(body, "")() == 3


def test_a_module_that_is_gone_is_no_longer_called(named: ModuleType) -> None:
    cache, body = FunctionCache(), body_of(named.f)
    cache.load(body, "")
    del sys.modules["named_here"]
    with pytest.raises(ModuleNotFoundError):
        cache.load(body, "")
