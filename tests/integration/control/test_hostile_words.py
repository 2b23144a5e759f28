"""Whatever a connection says gets an answer that tells what is wrong with it, and the controller lives."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.box import Box

HUGE = 10**400
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    2**70,
    HUGE,
    float("nan"),
    float("inf"),
    "x",
    "²",
    "9" * 30,
    "9" * 5000,
    "\ud800",
    [],
    [2**70],
    {},
)
FIELDS = {
    "ready": ("timeout_s",),
    "status": ("width",),
    "ps": ("limit", "state"),
    "wait": ("ids", "timeout_s"),
    "show": ("id",),
    "logs": ("target",),
    "cancel": ("ids",),
    "locate": ("target",),
    "select": ("selectors",),
    "submit": ("tasks", "request_id"),
}
TASK_FIELDS = ("argv", "cwd", "env", "name", "priority", "timeout_s", "retries", "deliveries", "delivery", "grace_s")


def ask(box: Box, **request: object) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(box.runtime / "control.sock"))
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            for line in lines:
                answer: dict[str, Any] = json.loads(line)
                if not answer.get("more"):
                    return answer
    raise AssertionError(f"no answer to {str(request)[:200]}")


@pytest.fixture
def swarm(box: Box) -> Box:
    box.init(1)
    box.tmax("run", "--", "true")
    return box


def test_no_value_of_any_field_is_an_internal_error(swarm: Box) -> None:
    pid = swarm.controller_pid()
    usual: dict[str, dict[str, Any]] = {"wait": {"ids": [1], "timeout_s": 1}, "ps": {"all": True}, "submit": {"tasks": []}}
    for verb, names in FIELDS.items():
        for name in names:
            for value in ODD:
                told = ask(swarm, **{"verb": verb, **usual.get(verb, {}), name: value})
                assert "internal" not in told.get("error", {}).get("message", ""), (verb, name, str(value)[:50])
    for name in TASK_FIELDS:
        for value in ODD:
            told = ask(swarm, verb="submit", tasks=[{"kind": "shell", "argv": ["true"], name: value}])
            assert "internal" not in told.get("error", {}).get("message", ""), (name, str(value)[:50])
    assert swarm.controller_pid() == pid


def test_a_timer_that_no_clock_call_takes_and_a_life_that_nobody_has(swarm: Box) -> None:
    pid = swarm.controller_pid()
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(swarm.runtime / "control.sock"))
        slow = swarm.submit("--", "sleep", "1")
        waiting.sendall(json.dumps({"verb": "wait", "ids": [slow], "timeout_s": 1e308}).encode() + b"\n")
        for life in (HUGE, -1, 0, 2**70):
            assert "error" in ask(swarm, verb="announce", life=life, place="nowhere")
        swarm.tmax("wait", str(slow))
    assert swarm.controller_pid() == pid
