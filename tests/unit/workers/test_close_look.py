"""When a process is looked at, and how closely: what no look may be spared for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tmax_workers.inert import calls_nothing

CODE = """
import gc, os, signal, sys
from tmax_workers.isolation import Isolation

isolation = Isolation()
CHANGES = {
    "none": lambda: None,
    "collector": lambda: gc.set_threshold(5),
    "affinity": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "timer": lambda: signal.setitimer(signal.ITIMER_PROF, 3600),
    "digits": lambda: sys.set_int_max_str_digits(5000),
}

def state():
    return gc.get_threshold(), os.sched_getaffinity(0), signal.getitimer(signal.ITIMER_PROF), sys.get_int_max_str_digits()

before = state()

def work(change):
    found = state() == before
    CHANGES[change]()
    return found

def task(what, change="none", took=0.0):
    return run(what, work, change, took)

def run(what, function, argument, took=0.0):
    isolation.begin(what)
    found = isolation.call(function, (argument,), {})
    isolation.disarm(took)
    isolation.leave(keep_background=False)
    return found, state() == before
"""


def told(program: str, code: str = "") -> list[tuple[bool, bool]]:
    """Run tasks in a process; return of each what it returned (whether it found the process clean), and whether it is clean after it."""
    done = subprocess.run([sys.executable, "-c", f"{CODE}\n{code}\nprint({program})"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[tuple[bool, bool]] = eval(done.stdout)  # of the program above
    return found


@pytest.mark.parametrize("change", ["affinity", "timer", "digits"])
def test_a_call_that_takes_no_time_is_put_back_before_another_of_its_function(change: str) -> None:
    assert told(f"[task(b'f'), task(b'f'), task(b'f', {change!r}), task(b'f')]") == [(True, True)] * 4


def test_of_a_function_that_has_changed_something_each_call_is_looked_at_closely() -> None:
    once = "task(b'f', 'collector', took={}), task(b'f'), task(b'f'), task(b'f', 'collector'), task(b'f')"
    assert told(f"[{once.format(0.0)}]") == [(True, True)] * 5
    assert told(f"[task(b'f'), task(b'f'), {once.format(0.001)}]") == [(True, True)] * 7


def test_another_function_never_finds_what_one_left() -> None:
    same = "[task(b'f'), task(b'f'), task(b'f', 'collector'), task(b'f'), task(b'g'), task(b'f')]"
    assert told(same) == [(True, True), (True, True), (True, False), (False, False), (True, True), (True, True)]
    assert told("[task(''), task('', 'collector'), task('')]") == [(True, True)] * 3, "nobody can tell whether it is the same one"


# -- calls that can change nothing -----------------------------------------------------------------


def same(number):
    return number


def arithmetic(number):
    twice = number * 2
    while twice > 10:
        twice = twice - 1
    return twice if twice != 3 else None


def calls(number):
    return abs(number)


def looks_up(_number):
    return CODE


def takes_apart(number):
    return number.real


def counts(number):
    yield number


def gives_in(_number, other=CODE):
    return other


def deletes(number):
    del number[0]


@pytest.mark.parametrize("function", [same, arithmetic, lambda number: number, lambda: None])
def test_a_function_that_calls_and_looks_up_nothing_is_known(function: object) -> None:
    assert calls_nothing(function)


def test_every_other_is_looked_at_after_its_call() -> None:
    free = 1
    others = [calls, looks_up, takes_apart, counts, gives_in, deletes, lambda: free, abs, int, CODE.upper]
    assert not any(map(calls_nothing, others))


def test_an_argument_of_a_programs_own_class_may_do_anything() -> None:
    code = """
class Mine(int):
    def __mul__(self, other): return CHANGES["affinity"]() or 6
def twice(number): return number * 2
"""
    assert told("[run(b'f', twice, one) for one in (1, 2, 2, Mine(3), 4)]", code) == [(2, True), (4, True), (4, True), (6, True), (8, True)]


def test_a_function_that_is_given_other_code_is_another_one() -> None:
    code = """
def inert(number): return number
def other(number): return CHANGES["affinity"]() or 6
def swap(number): inert.__code__ = other.__code__
"""
    program = "[run(b'f', inert, 1), run(b'f', inert, 2), run(b'g', swap, 0), run(b'f', inert, 3), run(b'f', inert, 4)]"
    assert [clean for _, clean in told(program, code)] == [True] * 5
