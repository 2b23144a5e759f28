from __future__ import annotations

import pytest
from typer.main import get_command

from tmax.cli import arguments, tasks  # noqa: F401 - tasks registers its verbs
from tmax.cli.arguments import parse
from tmax.cli.main import app
from tmax.core import option_values
from tmax.errors import UsageError


def test_the_fast_table_and_typer_know_the_same_options() -> None:
    """A flag that only one of them knows would change its meaning with whatever else stands on the line."""
    from tmax.cli import doctor, swarm  # noqa: F401 - they register theirs

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, verb in arguments.VERBS.items():
        typers = {(flag, not param.is_flag) for param in commands[name].params if param.param_type_name == "option" for flag in param.opts}
        fast = {(flag, option.read is not None) for option in (*verb.options, *arguments.COMMON) for flag in option.flags}
        assert fast == typers, name


def test_the_fast_table_names_functions_that_take_its_options() -> None:
    import importlib
    import inspect

    for verb in arguments.VERBS.values():
        module, _, name = verb.call.partition(":")
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        for option in verb.options:
            assert anything or option.name in parameters, (name, option.name)


@pytest.mark.parametrize(
    "line, verb, words, own",
    [
        ("", "status", [], {}),
        ("--swarm x", "status", [], {}),
        ("ps -a --limit 5", "ps", [], {"every": True, "limit": 5}),
        ("ps --limit=5", "ps", [], {"limit": 5}),
        ("submit -- ls -l --json", "submit", ["ls", "-l", "--json"], {}),
        ("submit ls -l --name x", "submit", ["ls", "-l", "--name", "x"], {}),
        ("submit --request-id -x -- a -- b", "submit", ["a", "--", "b"], {"request_id": "-x"}),
        ("submit --py m:f - 3", "submit", ["-", "3"], {"py": "m:f"}),
        ("submit --timeout 1h30m -- x", "submit", ["x"], {"timeout_s": 5400.0}),
        ("wait 1 2 --timeout 3 @", "wait", ["1", "2", "@"], {"timeout_s": 3.0}),
        ("wait -- -x", "wait", ["-x"], {}),
        ("logs -f @~2", "logs", ["@~2"], {"follow": True}),
        ("attach", "attach", [], {}),
        ("attach -r w1", "attach", ["w1"], {"read_only": True}),
        ("--json cancel 3-7 --dry-run", "cancel", ["3-7"], {"dry_run": True}),
    ],
)
def test_lines_that_are_understood(line: str, verb: str, words: list[str], own: dict[str, object]) -> None:
    parsed = parse(line.split())
    assert parsed is not None
    assert (parsed.verb, parsed.words, parsed.own) == (verb, words, own)


def test_common_options_may_stand_on_both_sides() -> None:
    parsed = parse(["--swarm", "a", "ps", "--json", "--swarm", "b", "-q"])
    assert parsed is not None
    assert parsed.common == {"swarm": "b", "json": True, "quiet": True}


@pytest.mark.parametrize(
    "line",
    ["--help", "-h", "ps -h", "kernel matmul", "nope", "ps --nope", "ps extra", "result", "result 1 2", "wait", "ps -aq", "ps --all=1", "ps --limit",
     "attach a b", "- ps", "--swarm", "status --", "--version"],
)  # fmt: skip
def test_lines_that_are_left_to_typer(line: str) -> None:
    if line == "status --":
        assert parse(line.split()) is not None
    else:
        assert parse(line.split()) is None


@pytest.mark.parametrize(
    "line", ["ps --limit x", "ps --state nope", "submit --priority urgent -- x", "wait 1 --timeout soon", "ps --color red"]
)
def test_values_that_are_not_allowed_are_said(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert next(word for word in line.split() if word.startswith("--")) in caught.value.message


@pytest.mark.parametrize(
    "text, value",
    [
        ("0", 0.0),
        ("90", 90.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("10 s", 10.0),
        (" 5 ", 5.0),
        ("1h 30m", 5400.0),
        ("5min", 300.0),
        ("1000000000", 1e9),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert option_values.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", " ", "x", "1x", "-1", "1h x", "m", "1.2.3", "1e3", "1e9h", "inf", "nan", "1 0 s", "1\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration") as caught:
        option_values.seconds(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["1000000001", "300000h", "9" * 400])
def test_a_duration_that_is_too_long_is_told_the_limit(text: str) -> None:
    with pytest.raises(UsageError, match="at most 1000000000 seconds"):
        option_values.seconds(text)


@pytest.mark.parametrize(
    "text, value", [("0", 0), ("007", 7), ("1000000000", 10**9), ("9223372036854775807", 2**63 - 1), ("0" * 30 + "5", 5)]
)
def test_numbers(text: str, value: int) -> None:
    assert option_values.count(text) == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "1_000", " 1", "x", "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT THREE}"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="is not a whole number from 0"):
        option_values.count(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "9" * 5000])
def test_a_number_that_is_too_large_is_told_the_limit(text: str) -> None:
    with pytest.raises(UsageError, match="at most 9223372036854775807") as caught:
        option_values.count(text)
    assert len(caught.value.message) < 120


@pytest.mark.parametrize(
    "line", ["ps -aq --limit x", "kernel reduce --n x", "kernel reduce --timeout nan", "submit --name 3 -h -- x", "ps -aq --color red"]
)
def test_typer_names_the_option_too(line: str) -> None:
    from tmax.cli.main import run

    flag = next(word for word in line.split() if word.startswith("--"))
    with pytest.raises(UsageError, match=f"^{flag}: |^-l: "):
        run([word for word in line.split() if word != "-h"])


def test_kernel_names_are_those_the_workers_know() -> None:
    from tmax.cli.kernel import KERNELS
    from tmax_workers.kernels.catalog import KERNELS as KNOWN

    assert set(KERNELS) == set(KNOWN)


def test_dtypes_are_those_the_workers_know() -> None:
    from tmax.cli.kernel import DTYPES
    from tmax_workers.kernels.backends import ITEM_BYTES

    assert tuple(ITEM_BYTES) == DTYPES


@pytest.mark.parametrize(
    "line, told",
    [
        ("--dtype f8", "'f8' is not one of: float64, float32"),
        ("--n -1", "'-1' is not a whole number from 1"),
        ("--n 0", "'0' is not a whole number from 1"),
    ],
)
def test_a_kernel_that_no_worker_could_run_costs_no_place_in_the_queue(line: str, told: str) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["kernel", "matmul", *line.split()])
    assert told in str(done.exception) or told in done.output


def test_states_are_those_of_the_model() -> None:
    from tmax.core.model import TaskState

    assert set(arguments.STATES) == {state.value for state in TaskState}
