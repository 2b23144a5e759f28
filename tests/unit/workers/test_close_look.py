"""When a process is looked at closely: between any two functions, and as long as a function changes something."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, signal
from tmax_workers.isolation import Isolation

isolation, before = Isolation(), gc.get_threshold()

def is_clean():
    return gc.get_threshold() == before and signal.getitimer(signal.ITIMER_PROF) == (0, 0)

def task(what, number=0, took=0.0):
    def change():
        found = is_clean()
        if number:
            gc.set_threshold(number)
            signal.setitimer(signal.ITIMER_PROF, 3600)
        return found
    isolation.begin(what)
    found = isolation.call(change, (), {})
    isolation.disarm(took)
    isolation.leave(keep_background=False)
    return found, is_clean()
"""


def told(program: str) -> list[tuple[bool, bool]]:
    """Run tasks in a process; return of each whether it found the process clean, and left it so."""
    done = subprocess.run([sys.executable, "-c", f"{CODE}\nprint({program})"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[tuple[bool, bool]] = eval(done.stdout)  # of the program above
    return found


def test_the_first_call_of_a_function_is_put_back_at_once_and_so_are_its_others() -> None:
    assert told("[task(b'f', number) for number in (5, 6, 7)]") == [(True, True)] * 3


def test_a_call_that_took_a_while_is_put_back_at_once() -> None:
    assert told("[task(b'f'), task(b'f'), task(b'f', 5, took=0.001), task(b'f')]") == [(True, True)] * 4


def test_another_function_never_finds_what_one_left() -> None:
    same = "[task(b'f'), task(b'f'), task(b'f', 5), task(b'f'), task(b'g'), task(b'f')]"
    assert told(same) == [(True, True), (True, True), (True, False), (False, False), (True, True), (True, True)]
    assert told("[task(''), task('', 5), task('')]") == [(True, True)] * 3, "nobody can tell whether it is the same one"
