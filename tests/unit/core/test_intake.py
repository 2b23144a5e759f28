"""Which task descriptions are accepted, and which are refused before anything is stored."""

from __future__ import annotations

from typing import Any

import pytest

from tmax.control.protocol import BulkTask
from tmax.controller.intake import new_task, new_task_of_bulk
from tmax.core.settings import TaskSettings
from tmax.errors import UsageError
from tmax_pipes.jobs import Context, KernelJob, PythonJob, ShellJob, encode_context
from tmax_pipes.options_struct import GivenOptions

DEFAULTS = TaskSettings()


def made(**given: Any) -> Any:
    return new_task(given, DEFAULTS, "")


def test_arguments_that_are_not_utf8_are_kept_byte_for_byte() -> None:
    task = made(kind="shell", argv=["echo", "caf\udce9"], env={"X": "\udcff"}, cwd="/tmp/\udc80")
    assert task.job == ShellJob(argv=(b"echo", b"caf\xe9"), env={b"X": b"\xff"}, cwd=b"/tmp/\x80")


def test_an_empty_command_and_a_kind_that_is_no_text_are_refused() -> None:
    with pytest.raises(UsageError, match="the command is empty"):
        made(kind="shell", argv=["", "x"])
    with pytest.raises(UsageError, match="needs a kind"):
        made(kind=["shell"])


def test_the_size_of_a_terminal_is_kept_and_checked() -> None:
    assert made(kind="shell", argv=["x"], terminal_size=[40, 91]).job.terminal_size == (40, 91)
    assert made(kind="shell", argv=["x"]).job.terminal_size is None
    for wrong in ([40], "ab", [0, 80], [80, 65536], [80.0, True]):
        with pytest.raises(UsageError):
            made(kind="shell", argv=["x"], terminal_size=wrong)


def test_python_and_kernel_tasks() -> None:
    task = made(kind="python", target="a.b:c.d", args=[1], kwargs={"x": 2})
    context = encode_context(Context())
    assert task.job == PythonJob(call=b'[[1], {"x": 2}]', label="a.b.c.d", target="a.b:c.d", context=context)
    assert made(kind="kernel", kernel="matmul", params={"n": 4}).job == KernelJob(name="matmul", params={"n": 4})


def test_a_shell_task_with_deliveries_is_delivered_again() -> None:
    assert made(kind="shell", argv=["x"]).options.delivery is None
    assert made(kind="shell", argv=["x"], deliveries=2).options.delivery == "at-least-once"
    assert made(kind="shell", argv=["x"], deliveries=2, delivery="at-most-once").options.delivery == "at-most-once"


KINDS: list[dict[str, Any]] = [
    {"kind": "shell", "argv": ["x"]},
    {"kind": "python", "target": "a:f"},
    {"kind": "kernel", "kernel": "matmul"},
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_submitters_umask_and_limits_and_the_two_switches(kind: dict[str, Any]) -> None:
    job = made(**kind, umask=0o27, limits={"7": [1024, -1], "0": [-1, -1]}, fresh=True, keep_background=True).job
    assert (job.umask, job.limits, job.fresh, job.keep_background) == (0o27, {7: (1024, -1), 0: (-1, -1)}, True, True)
    plain = made(**kind).job
    assert (plain.umask, plain.limits, plain.fresh, plain.keep_background) == (None, {}, False, False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_settings_switch_on_holds_for_every_task(kind: dict[str, Any]) -> None:
    settings = TaskSettings(fresh=True, keep_background=True)
    task = new_task(kind, settings, "")
    assert (task.job.fresh, task.job.keep_background) == (True, True)
    bulk = new_task_of_bulk("c", BulkTask(seq=1, job=made(**kind).job), settings)
    assert (bulk.job.fresh, bulk.job.keep_background) == (True, True)


def test_the_input_of_a_command_is_a_path_or_an_abstract_socket() -> None:
    assert made(kind="shell", argv=["x"], stdin="/dev/null").job.stdin == b"/dev/null"
    assert made(kind="shell", argv=["x"], stdin="@tmax-1").job.stdin == b"@tmax-1"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kind": "nothing"},
        {"kind": "shell", "argv": []},
        {"kind": "shell", "argv": "ls"},
        {"kind": "shell", "argv": [""]},
        {"kind": "shell", "argv": ["a\0b"]},
        {"kind": "shell", "argv": ["x"], "env": ["A=B"]},
        {"kind": "shell", "argv": ["x"], "timeout_s": -1},
        {"kind": "shell", "argv": ["x"], "timeout_s": float("nan")},
        {"kind": "shell", "argv": ["x"], "retries": 1.5},
        {"kind": "shell", "argv": ["x"], "retries": True},
        {"kind": "shell", "argv": ["x"], "deliveries": 0},
        {"kind": "shell", "argv": ["x"], "priority": "urgent"},
        {"kind": "shell", "argv": ["x"], "delivery": "exactly-once"},
        {"kind": "shell", "argv": ["x"], "name": 7},
        {"kind": "shell", "argv": ["x" * 1_000_000]},
        {"kind": "python", "target": "module"},
        {"kind": "python", "target": "os:system;x"},
        {"kind": "python", "target": "../x:f"},
        {"kind": "python", "target": "a:f", "args": ["x" * 70_000]},
        {"kind": "kernel", "kernel": "matmul", "device": "tpu"},
        {"kind": "kernel", "kernel": "matmul", "params": {"n": [1]}},
        {"kind": "kernel", "kernel": "matmul", "repeat": 0},
        {"kind": "kernel", "kernel": "matmul", "params": {"n": 2**70}},
        {"kind": "kernel", "kernel": "half \ud800"},
        {"kind": "shell", "argv": ["x"], "name": "half \ud800"},
        {"kind": "shell", "argv": ["x"], "umask": -1},
        {"kind": "shell", "argv": ["x"], "umask": 0o1000},
        {"kind": "kernel", "kernel": "matmul", "umask": "022"},
        {"kind": "python", "target": "a:f", "umask": True},
        {"kind": "shell", "argv": ["x"], "limits": [1]},
        {"kind": "shell", "argv": ["x"], "limits": {"-1": [1, 1]}},
        {"kind": "shell", "argv": ["x"], "limits": {"NOFILE": [1, 1]}},
        {"kind": "shell", "argv": ["x"], "limits": {"7": [1]}},
        {"kind": "shell", "argv": ["x"], "limits": {"7": 1}},
        {"kind": "shell", "argv": ["x"], "limits": {"7": [1.5, 2]}},
        {"kind": "python", "target": "a:f", "limits": {"7": [-2, 2]}},
        {"kind": "kernel", "kernel": "matmul", "limits": {"7": [1, 2**63]}},
        {"kind": "shell", "argv": ["x"], "stdin": "relative"},
        {"kind": "shell", "argv": ["x"], "stdin": 0},
        {"kind": "shell", "argv": ["x"], "split": "yes"},
        {"kind": "shell", "argv": ["x"], "fresh": 1},
        {"kind": "kernel", "kernel": "matmul", "keep_background": None},
    ],
)
def test_what_is_wrong_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        new_task(given, DEFAULTS, "")


def test_omitted_fields_are_as_configured_and_0_is_not_omitted() -> None:
    configured = TaskSettings(retries=2, deliveries=5, grace_s=7.0)
    job = KernelJob(name="matmul")
    usual = new_task_of_bulk("c", BulkTask(seq=1, job=job), configured)
    assert (usual.options.retries, usual.options.deliveries, usual.options.grace_s) == (2, 5, 7.0)
    none = new_task_of_bulk("c", BulkTask(seq=1, job=job, options=GivenOptions(retries=0, deliveries=1, grace_s=0.0)), configured)
    assert (none.options.retries, none.options.deliveries, none.options.grace_s) == (0, 1, 0.0)
    json = new_task({"kind": "kernel", "kernel": "matmul", "retries": 0, "grace_s": 0}, configured, "")
    assert (json.options.retries, json.options.grace_s) == (0, 0.0)
