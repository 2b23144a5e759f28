"""A task's options are defined in one table; everything that reads, checks, stores, sends, shows or documents them follows it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.box import PACKAGE_PATH
from tmax.config import load
from tmax.controller.intake import new_task, new_task_of_bulk
from tmax.core.option_values import check, reader
from tmax.core.settings import TaskSettings
from tmax.errors import ConfigError, UsageError
from tmax_pipes import jobs, options_struct, task_options
from tmax_pipes.messages import Run
from tmax_pipes.options_struct import DEFAULT_OPTIONS, GivenOptions
from tmax_pipes.task_options import KINDS, OPTIONS, TaskOption

ROOT = Path(__file__).resolve().parents[2]
WRONG: dict[str, list[Any]] = {
    "seconds": [-1, float("nan"), float("inf"), 1e9 + 1, "5", True, None],
    "count": [-1, 1.5, True, "1", None, 2**31 + 1, 10**5000],
    "choice": ["nope", 1, None],
    "name": [7, "3", "a\nb", "x" * 201],
    "flag": [0, 1, "yes", None],
}
"""Values that no option of the type takes."""

ONE_ROW_MORE = """
from tmax_pipes import task_options
task_options.OPTIONS += (
    task_options.TaskOption(
        "cost_s", "--cost", type="seconds", least=1, most=50, default=2.0, keyword="cost", metavar="COST", help="A price"
    ),
)
"""

FOUND_EVERYWHERE = """
import inspect, queue, sys, tempfile
import msgspec
from tmax.api.submission import SubmitMixin
from tmax.cli import typer_app
from tmax.cli.verbs import submit
from tmax.control.bulk import Frames, decode_request, encode
from tmax.control.protocol import BulkSubmit, BulkTask
from tmax.controller.intake import new_task, new_task_of_bulk
from tmax.controller.views import task_view, task_details
from tmax.core.events import Changes, Submitted
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings, StoreSettings, TaskSettings
from tmax.errors import UsageError
from tmax.layout import Layout
from tmax.storage.store import Store
from tmax_pipes.frame import Decoder
from tmax_pipes.frame import encode as frame
from tmax_pipes.jobs import KernelJob

# the command line: flag and help
from tmax.cli import declaration
line = declaration.parse(["submit", "--cost", "5", "--", "x"], lambda name: submit.VERB, "status")
assert line.own == {"cost_s": 5.0}
from typer.testing import CliRunner
text = " ".join(CliRunner().invoke(typer_app.build_app(), ["run", "--help"]).output.split())
assert "--cost COST A price (1 to 50 s) [default: 2 s]." in text, text

# JSON at the control socket
kernel = {"kind": "kernel", "kernel": "matmul"}
assert new_task({**kernel, "cost_s": 5}, TaskSettings(), "").options.cost_s == 5.0
try:
    new_task({**kernel, "cost_s": 51}, TaskSettings(), "")
except UsageError as error:
    assert error.message == "cost_s must be a number of seconds from 1 to 50, not 51"
else:
    raise AssertionError("51 was taken")

# the Python API: keyword, check, bulk frame
assert "cost" in inspect.signature(SubmitMixin.options).parameters and "``cost``: A price (1 to 50 s)" in SubmitMixin.options.__doc__
swarm = SubmitMixin()
swarm._context = None
view = swarm.options(cost=5)
try:
    swarm.options(cost=0)
except UsageError as error:
    assert error.message.startswith("cost must be"), error
else:
    raise AssertionError("0 was taken")
sent = encode(BulkSubmit("c", (BulkTask(seq=1, job=KernelJob(name="matmul"), options=view._options),)))
(request,) = map(decode_request, Frames().feed(sent))
new = new_task_of_bulk("c", request.tasks[0], TaskSettings())
assert new.options.cost_s == 5.0

# the scheduler, and the frame to the worker
scheduler = Scheduler(Settings(), workers=1, pool=0, now=0.0)
turn = scheduler.handle((Submitted(token=1, tasks=(new,)),), 0.0, 0.0)
(task,) = turn.changes.new_tasks
(message,) = [one[1] for one in Decoder("any").feed(frame(scheduler._state.run_message(task), 1))]
assert message.options.cost_s == 5.0

# the store, reopened
folder = tempfile.mkdtemp(dir=sys.argv[1])
layout = Layout("s", folder + "/state", folder + "/run")
box = queue.SimpleQueue()
store = Store.open(layout, StoreSettings(ballast_bytes=0))
store.commit(Changes(new_tasks=(task,)), box.put)
assert box.get(timeout=30).ok
store.close()
store = Store.open(layout, StoreSettings(ballast_bytes=0))
(kept,) = store.load().tasks
store.close()
assert (kept, kept.options.cost_s) == (task, 5.0), (kept, task)

# what people are shown
assert task_details(kept)["cost_s"] == 5.0
assert msgspec.to_builtins(task_view(kept))["options"] == {"cost_s": 5.0}
print("found everywhere")
"""


def test_an_option_added_to_the_table_is_found_everywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_ROW_MORE + FOUND_EVERYWHERE, str(tmp_path)],
        env={"PYTHONPATH": PACKAGE_PATH, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "found everywhere\n", done.stderr


def declared(path: str, name: str) -> dict[str, tuple[str, str]]:
    """Return annotation and default of each field of a class that only type checkers see."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    fields = [node for node in found.body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(one.target): (ast.unparse(one.annotation), ast.unparse(one.value) if one.value else "") for one in fields}


def annotation(option: TaskOption) -> str:
    words = ", ".join(map(repr, option.choices))
    made = {"seconds": "float", "count": "int", "name": "str", "flag": "bool", "choice": f"Literal[{words}]"}[option.type]
    return f"{made} | None" if option.default is None else made


def test_what_type_checkers_see_is_the_table() -> None:
    of_task = [option for option in OPTIONS if option.owner == "task"]
    expected = {option.name: (annotation(option), repr(option.default)) for option in of_task}
    assert declared("pipes/tmax_pipes/options_struct.py", "TaskOptions") == expected
    keywords = {
        one.keyword: (("bool" if one.keyword_values else annotation(one)).removesuffix(" | None") + " | None", "")
        for one in OPTIONS
        if one.keyword
    }
    assert declared("tmax/api/submission.py", "OptionKeywords") == keywords


def test_an_option_of_the_job_is_a_field_of_each_job_it_applies_to() -> None:
    structs = {
        jobs.kind_of(one): type(one) for one in (jobs.PythonJob(call=b"", label=""), jobs.ShellJob(argv=()), jobs.KernelJob(name=""))
    }
    assert set(structs) == set(KINDS)
    for option in OPTIONS:
        for kind in option.kinds if option.owner == "job" else ():
            field = next(one for one in msgspec.structs.fields(structs[kind]) if one.name == option.name)
            assert (field.type, field.default) == (bool, option.default)


def test_a_setting_that_an_option_names_has_the_same_default() -> None:
    for option in OPTIONS:
        assert not option.setting or getattr(TaskSettings(), option.setting) == option.default, option.name


def test_no_flag_keyword_or_field_stands_twice() -> None:
    for words in (
        [option.name for option in OPTIONS],
        [option.keyword for option in OPTIONS if option.keyword],
        [flag for option in OPTIONS for flag in option.flags],
    ):
        assert len(words) == len(set(words))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_wrong_values_are_refused_with_the_limits_that_hold(option: TaskOption) -> None:
    limits = [str(option.least), str(option.most)] if option.type in {"seconds", "count"} else list(option.choices)
    for value in [*WRONG[option.type], *([option.least - 1, option.most + 1] if option.most else [])]:
        if value is None and option.default is None:
            continue
        with pytest.raises(UsageError) as caught:
            check(option, value, "X")
        assert len(caught.value.message) < 250
        if option.type != "name":
            assert caught.value.message.startswith("X must be")
            assert all(limit in caught.value.message for limit in limits)
    if option.most:
        assert (check(option, option.least), check(option, option.most)) == (option.least, option.most)


def test_a_number_that_is_too_large_is_called_that() -> None:
    retries, deliveries = (next(one for one in OPTIONS if one.name == name) for name in ("retries", "deliveries"))
    with pytest.raises(UsageError, match=r"^2147483649 is too large: at most 2147483648$"):
        reader(retries)("2147483649")  # type: ignore[misc]  # not a flag
    with pytest.raises(UsageError, match=r"^'0' is not a whole number of 1 or more$"):
        reader(deliveries)("0")  # type: ignore[misc]  # not a flag


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.setting and one.most], ids=lambda option: option.name)
def test_the_setting_of_an_option_takes_no_value_that_the_option_refuses(option: TaskOption) -> None:
    """Else each task would be refused for an option that its submitter has not given."""
    for value, is_taken in ((option.most, True), (option.most + 1, False)):
        try:
            load({f"tasks.{option.setting}": value}, env={}, cwd="/")
        except ConfigError:
            assert not is_taken
        else:
            assert is_taken


def test_deliveries_of_a_command_permit_running_it_again() -> None:
    for given, expected in (
        ({}, "at-most-once"),
        ({"deliveries": 2}, "at-least-once"),
        ({"deliveries": 2, "delivery": "at-most-once"}, "at-most-once"),
    ):
        made = new_task({"kind": "shell", "argv": ["x"], **given}, TaskSettings(), "")
        bulk = options_struct_task(GivenOptions(**given))
        assert made.options == bulk.options
        assert (made.options.delivery or "at-most-once") == expected
    # A setting is no permission: it was not given for this command.
    assert new_task({"kind": "shell", "argv": ["x"]}, TaskSettings(deliveries=9), "").options.delivery is None
    assert new_task({"kind": "python", "target": "a:f", "deliveries": 2}, TaskSettings(), "").options.delivery is None


def options_struct_task(given: GivenOptions) -> Any:
    from tmax.control.protocol import BulkTask

    return new_task_of_bulk("c", BulkTask(seq=1, job=jobs.ShellJob(argv=(b"x",)), options=given), TaskSettings())


def test_an_option_that_does_not_apply_to_a_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="split does not apply to python tasks"):
        new_task({"kind": "python", "target": "a:f", "split": True}, TaskSettings(), "")


def test_a_wrong_value_from_the_python_api_is_refused_by_the_controller_as_well() -> None:
    for given in ({"priority": "urgent"}, {"delivery": "exactly-once"}, {"timeout_s": float("nan")}, {"deliveries": 0}, {"retries": 2**40}):
        with pytest.raises(UsageError):
            options_struct_task(GivenOptions(**given))


def test_default_options_are_one_instance_and_take_no_bytes() -> None:
    first, second = (
        options_struct_task(options_struct.NOTHING_GIVEN),
        options_struct_task(GivenOptions(deliveries=3, delivery="at-most-once")),
    )
    assert first.options is DEFAULT_OPTIONS
    assert second.options is options_struct_task(GivenOptions(deliveries=3, delivery="at-most-once")).options
    assert options_struct.options_with({"retries": 0, "grace_s": 5.0 * 2}) is DEFAULT_OPTIONS
    plain = msgspec.msgpack.encode(Run(task=1, attempt=1, job=jobs.KernelJob(name="")))
    assert plain == msgspec.msgpack.encode(Run(task=1, attempt=1, job=jobs.KernelJob(name=""), options=first.options))
    assert b"options" not in plain
    given = options_struct_task(GivenOptions(retries=2)).options
    assert msgspec.to_builtins(given) == {"retries": 2}


def test_the_table_costs_no_import() -> None:
    code = "import sys; before = set(sys.modules); import tmax_pipes.task_options; print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": PACKAGE_PATH}, capture_output=True, text=True, timeout=30, check=True
    )
    assert ast.literal_eval(done.stdout) == ["__future__", "tmax_pipes", "tmax_pipes.task_options"]


def test_the_page_of_options_is_the_table() -> None:
    head = ["| option | command line | Python | values | default | tasks | meaning |", "|---|---|---|---|---|---|---|"]
    rows = [
        f"| `{one.name}` | {' '.join(f'`{flag}`' for flag in one.flags)} | {f'`{one.keyword}=`' if one.keyword else ''} "
        f"| {one.range_text or 'on'} | {one.default_shown or ('off' if one.type == 'flag' else 'none')} "
        f"| {'all' if one.kinds == KINDS else ', '.join(one.kinds)} | {one.help} |"
        for one in task_options.OPTIONS
    ]
    page = (ROOT / "docs" / "task-options.md").read_text(encoding="utf-8")
    expected = "\n".join([*head, *rows])
    assert expected in page, f"docs/task-options.md must hold:\n{expected}"
