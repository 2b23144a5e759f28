"""A worker process runs the code of one program: real workers, as users submit to them."""

from __future__ import annotations

import os
import resource
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until

SHARED = "def who():\n    return __file__\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    """One swarm for the tests that need nothing special of it; NumPy is preloaded and one warm worker waits."""
    made = Box({"TMAX_SWARM__POOL": "1", "TMAX_SWARM__PRELOAD": "numpy"})
    made.init(2)
    yield made
    left = made.close()
    assert not left, left


def folder(box: Box, name: str, **files: str) -> Path:
    """Make a folder with these modules in it."""
    path = box.root / name
    path.mkdir(exist_ok=True)
    for module, text in files.items():
        (path / f"{module}.py").write_text(textwrap.dedent(text))
    return path


def call(box: Box, where: Path, target: str, *args: str, **options: object) -> str:
    """Run a function from a folder, as a user does; return what is printed."""
    return box.tmax("run", *args, "--py", target, cwd=where, **options).stdout.strip()


def test_modules_of_one_name_in_two_folders_never_meet(shared: Box) -> None:
    places = [
        folder(shared, name, helper=SHARED, job="import helper\ndef who():\n    return helper.who()\n") for name in ("first", "second")
    ]
    for _ in range(3):
        for place in places:
            assert call(shared, place, "helper:who") == f'"{place}/helper.py"'
            assert call(shared, place, "job:who") == f'"{place}/helper.py"'


@pytest.mark.parametrize("name", ["random", "statistics", "queue", "yaml", "examples", "conftest", "cloudpickle"])
def test_the_submitters_module_goes_before_the_standard_library_and_what_is_installed(shared: Box, name: str) -> None:
    place = folder(shared, f"own-{name}", **{name: SHARED})
    assert call(shared, place, f"{name}:who") == f'"{place}/{name}.py"'
    assert call(shared, folder(shared, "other"), "os:getcwd") == f'"{shared.root}/other"', "and nobody else's"


def test_a_library_of_the_submitters_own_takes_the_place_of_the_preloaded_one(shared: Box) -> None:
    place = folder(shared, "own-numpy", numpy=SHARED)
    for _ in range(2):
        assert call(shared, place, "numpy:who") == f'"{place}/numpy.py"'
    assert call(shared, folder(shared, "other"), "numpy:__version__.upper")[0] == '"'


def test_pythonpath_is_searched_as_python_does(shared: Box) -> None:
    first, second, here = (folder(shared, name, thing=SHARED) for name in ("p1", "p2", "p3"))
    empty = folder(shared, "p0")
    path = f"{first}{os.pathsep}{second}{os.pathsep}{shared.env['PYTHONPATH']}"
    env = {**shared.env, "PYTHONPATH": path}
    assert call(shared, empty, "thing:who", env=env) == f'"{first}/thing.py"'
    assert call(shared, here, "thing:who", env=env) == f'"{here}/thing.py"'


def test_what_importing_a_module_does_to_its_process_stays_for_later_tasks(shared: Box) -> None:
    place = folder(
        shared,
        "sets-up",
        setup="""
            import decimal, os, sys, warnings
            os.environ["SET_AT_IMPORT"] = "yes"
            decimal.getcontext().prec = 7
            sys.setrecursionlimit(7777)
            def seen():
                return [os.environ.get("SET_AT_IMPORT"), decimal.getcontext().prec, sys.getrecursionlimit()]
        """,
    )
    for _ in range(3):
        assert call(shared, place, "setup:seen") == '["yes", 7, 7777]'
    other = folder(
        shared,
        "does-not",
        look="import decimal, os\ndef seen():\n    return [os.environ.get('SET_AT_IMPORT'), decimal.getcontext().prec]\n",
    )
    assert call(shared, other, "look:seen") == "[null, 28]"


def test_a_fresh_task_has_a_process_of_its_own(shared: Box) -> None:
    place = folder(shared, "fresh", mine="import os\nseen = []\ndef pid():\n    seen.append(1)\n    return [os.getpid(), len(seen)]\n")
    answers = [call(shared, place, "mine:pid", "--fresh") for _ in range(3)]
    assert len(set(answers)) == 3
    assert all(answer.endswith(", 1]") for answer in answers)
    pids = [shared.tmax("run", "--fresh", "--", "sh", "-c", "echo $PPID").stdout for _ in range(2)]
    assert len(set(pids)) == 2


def test_an_idle_worker_changes_hands_without_being_counted_as_a_death(shared: Box) -> None:
    places = [folder(shared, f"hand-{number}", helper=SHARED) for number in range(6)]
    before = shared.status()
    for place in places:
        assert call(shared, place, "helper:who") == f'"{place}/helper.py"'
    wait_until(lambda: len(shared.workers()) == 2)
    after = shared.status()
    assert after.get("deaths", 0) == before.get("deaths", 0)
    assert [worker["name"] for worker in shared.workers()] == ["w1", "w2"]


def test_a_submitters_umask_and_folder_hold_for_functions_too(shared: Box) -> None:
    place = folder(shared, "makes", maker="def make():\n    open('made.txt', 'w').close()\n    return __import__('os').getcwd()\n")
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        (place / "made.txt").unlink(missing_ok=True)
        assert call(shared, place, "maker:make", umask=mask) == f'"{place}"'
        assert (place / "made.txt").stat().st_mode & 0o777 == mode


def test_a_submitters_limit_of_file_sizes_holds_for_the_function_and_not_for_its_result(shared: Box) -> None:
    place = folder(
        shared,
        "limited",
        limited="""
            def big():
                try:
                    with open("big", "wb") as file:
                        file.write(bytes(200_000))
                except OSError as error:
                    return [error.errno, "x" * 200_000]
        """,
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))  # noqa: E731
    for _ in range(2):
        assert call(shared, place, "limited:big", preexec_fn=limit).startswith("[27, ")


def test_a_worker_lives_under_limits_that_leave_a_program_hardly_any_room(shared: Box) -> None:
    place = folder(shared, "poor", poor="import os\ndef opens():\n    return len([os.open('/', os.O_RDONLY) for _ in range(20)])\n")

    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))  # noqa: E731
    for _ in range(2):
        assert call(shared, place, "poor:opens", preexec_fn=limit) == "20"
