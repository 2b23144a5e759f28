"""After which calls a process is looked at: after all that may have changed it, however short they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tmax_workers.side_effects import has_no_side_effects

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
    "input": lambda: os.dup2(1, 0),
    "user": lambda: os.setgroups([os.getgid(), 12345]),
}

def state():
    return gc.get_threshold(), os.fstat(0).st_ino, os.getgroups(), os.sched_getaffinity(0), signal.getitimer(signal.ITIMER_PROF), sys.get_int_max_str_digits()

before = state()

def work(change):
    found = state() == before
    CHANGES[change]()
    return found

def task(change="none"):
    return run(work, change)

def run(function, argument):
    found = isolation.call(function, (argument,), {})
    isolation.disarm()
    isolation.leave(keep_background=False)
    return found, state() == before
"""


def told(program: str, code: str = "") -> list[tuple[bool, bool]]:
    """Run tasks in a process; return of each what it returned (whether it found the process clean), and whether it is clean after it."""
    done = subprocess.run([sys.executable, "-c", f"{CODE}\n{code}\nprint({program})"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[tuple[bool, bool]] = eval(done.stdout)  # of the program above
    return found


@pytest.mark.parametrize("change", ["affinity", "collector", "digits", "input", "timer", "user"])
def test_what_a_call_changes_in_no_time_is_not_there_for_another_of_its_function(change: str) -> None:
    """Put back, or no other call is made here."""
    if change == "user" and os.getuid() != 0:
        pytest.skip("only root may change it")
    program = f"[task(), task(), task({change!r}), task() if not isolation.used_up else (True, True)]"
    found = told(program)
    assert [one[0] for one in found] == [True] * 4
    assert found[2][1] is (change not in {"input", "user"})
    assert told(f"[task(), task(), task({change!r}), bool(isolation.used_up)]")[3] is (change in {"input", "user"})


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
    assert has_no_side_effects(function)


def test_every_other_is_looked_at_after_its_call() -> None:
    free = 1
    others = [calls, looks_up, takes_apart, counts, gives_in, deletes, lambda: free, abs, int, CODE.upper]
    assert not any(map(has_no_side_effects, others))


def test_an_argument_of_a_programs_own_class_may_do_anything() -> None:
    code = """
class Mine(int):
    def __mul__(self, other): return CHANGES["affinity"]() or 6
def twice(number): return number * 2
"""
    assert told("[run(twice, one) for one in (1, 2, 2, Mine(3), 4)]", code) == [(2, True), (4, True), (4, True), (6, True), (8, True)]


def test_a_function_that_is_given_other_code_is_another_one() -> None:
    code = """
def inert(number): return number
def other(number): return CHANGES["affinity"]() or 6
def swap(number): inert.__code__ = other.__code__
"""
    program = "[run(inert, 1), run(inert, 2), run(swap, 0), run(inert, 3), run(inert, 4)]"
    assert [clean for _, clean in told(program, code)] == [True] * 5
