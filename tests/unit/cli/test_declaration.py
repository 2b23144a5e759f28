"""The declarations of the verbs: complete, and read alike by the fast path and by typer."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tmax.cli import fast, typer_app, verbs
from tmax.cli.declaration import COMMON_OPTIONS, CommandLine, Verb, parse
from tmax.core.settings import Settings
from tmax.errors import UsageError

CLI = Path(verbs.__file__).parent.parent
ROOT = CLI.parent.parent
PACKAGES = ("tmax", "workers/tmax_workers", "pipes/tmax_pipes", "dashboard/tmax_dashboard")


def parsed_line(line: str) -> CommandLine | None:
    return parse(line.split(), verbs.verb_named, verbs.DEFAULT)


def test_the_table_names_every_file_and_each_declares_its_verb() -> None:
    assert set(verbs.FILES.values()) == {path.stem for path in (CLI / "verbs").glob("*.py")} - {"__init__"}
    assert [verb.name for verb in verbs.all_verbs()] == list(verbs.FILES)


def test_no_file_of_the_command_line_has_the_name_of_another_file() -> None:
    others: dict[str, list[Path]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if not path.stem.startswith("__"):
                others.setdefault(path.name, []).append(path)
    assert not [paths for paths in others.values() if len(paths) > 1 and any(CLI in path.parents for path in paths)]


@pytest.mark.parametrize("verb", verbs.all_verbs(), ids=lambda verb: verb.name)
def test_a_declaration_is_complete(verb: Verb) -> None:
    assert verb.examples and all(f"tmax {verb.name}" in line or verb.name == "status" for line, _ in verb.examples)
    first = verb.help.partition("\n")[0]
    assert first[0].isupper() and first.endswith(".") and len(first) <= 66  # whole in the list of verbs, 80 columns wide
    assert bool(verb.usage) == (verb.words != (0, 0))
    flags = [flag for option in (*verb.options, *COMMON_OPTIONS) for flag in option.flags]
    assert len(flags) == len(set(flags))
    for option in verb.options:
        assert option.help[0].isupper() and option.help.endswith(".")
        assert bool(option.metavar) == (option.read is not None)
    parameters = inspect.signature(verb.function).parameters
    if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        assert {option.name for option in verb.options} == {
            name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY
        }


def test_the_defaults_in_the_help_are_those_of_the_settings() -> None:
    options = {option for verb in verbs.all_verbs() for option in verb.options}
    shown = {
        (match[1], match[2], match[3])
        for option in options
        if (match := re.fullmatch(r"setting (\w+)\.(\w+) \((.*?)(?: s)?\)", option.default))
    }
    assert len(shown) == 9
    settings = Settings()
    for group, key, default in shown:
        value = getattr(getattr(settings, group), key)
        texts = {True: "on", False: "off"}
        assert default == (
            ",".join(value)
            if isinstance(value, tuple)
            else value
            if isinstance(value, str)
            else texts[value]
            if isinstance(value, bool)
            else f"{value:g}"
        )


@pytest.mark.parametrize(
    "line",
    [
        "ps -a --limit 0 --state done,failed", "--json ps --json", "--swarm a ps --swarm b", "submit --name x --retries 0 -- ls -l --json",
        "submit --py m:f - 3", "submit ls -l", "run -- a -- b", "wait 1 2 --timeout 3 @ --fail-fast", "wait -- -x", "logs -f @~2", "attach", "attach -r w1",
        "cancel 3-7 --dry-run", "kernel matmul --n 3 --timeout 1h30m", "tmux list-sessions -F x", "init -n 4 --preload numpy,torch", "up --pool 0", "hold -q",
        "down --now --color never",
    ],
)  # fmt: skip
def test_typer_passes_on_what_the_fast_path_does(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def record(common: Any, words: Any = (), **options: Any) -> int:
        calls.append(([getattr(common, name) for name in ("swarm", "json", "quiet", "debug", "plain", "color")], list(words), options))
        return len(calls)

    for verb in verbs.all_verbs():
        monkeypatch.setattr(verb, "function", record)
    parsed = parsed_line(line)
    assert parsed is not None
    assert [fast.call(parsed), typer_app.run(line.split())] == [1, 2]
    assert calls[0] == calls[1]


@pytest.mark.parametrize("line", ["sattus", "sattus --help", "-qq sattus"])
def test_an_unknown_verb_is_answered_with_the_nearest_one(line: str) -> None:
    with pytest.raises(UsageError, match="unknown verb 'sattus'") as caught:
        fast._run(line.split())
    assert caught.value.hint == "did you mean: tmax status"


def test_a_verb_that_resembles_none_is_answered_with_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        fast._run(["qqq"])
    assert caught.value.hint == "tmax --help lists the verbs"


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
        ("kernel matmul --n 3 -p low", "kernel", ["matmul"], {"n": 3, "priority": "low"}),
        ("tmux list-sessions -F x", "tmux", ["list-sessions", "-F", "x"], {}),
        ("status --", "status", [], {}),
        ("--json cancel 3-7 --dry-run", "cancel", ["3-7"], {"dry_run": True}),
    ],
)
def test_lines_that_are_understood(line: str, verb: str, words: list[str], own: dict[str, object]) -> None:
    parsed = parsed_line(line)
    assert parsed is not None
    assert (parsed.verb.name, parsed.words, parsed.own) == (verb, words, own)


def test_common_options_may_stand_on_both_sides() -> None:
    parsed = parsed_line("--swarm a ps --json --swarm b -q")
    assert parsed is not None
    assert parsed.common == {"swarm": "b", "json": True, "quiet": True}


@pytest.mark.parametrize(
    "line",
    ["--help", "-h", "ps -h", "ps --nope", "ps extra", "result", "result 1 2", "wait", "ps -aq", "ps --all=1", "ps --limit",
     "attach a b", "--swarm", "--version", "kernel", "tmux --nope"],
)  # fmt: skip
def test_lines_that_are_left_to_typer(line: str) -> None:
    assert parsed_line(line) is None


@pytest.mark.parametrize(
    "line", ["ps --limit x", "ps --state nope", "submit --priority urgent -- x", "wait 1 --timeout soon", "ps --color red"]
)
def test_values_that_are_not_allowed_are_said(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed_line(line)
    assert next(word for word in line.split() if word.startswith("--")) in caught.value.message


@pytest.mark.parametrize(
    "line", ["ps -aq --limit x", "kernel reduce --n x", "kernel reduce --timeout nan", "submit --name 3 -h -- x", "ps -aq --color red"]
)
def test_typer_names_the_option_too(line: str) -> None:
    flag = next(word for word in line.split() if word.startswith("--"))
    with pytest.raises(UsageError, match=f"^{flag}: "):
        typer_app.run([word for word in line.split() if word != "-h"])


def test_kernel_names_are_those_the_workers_know() -> None:
    from tmax.cli.verbs.kernel_verb import KERNELS
    from tmax_workers.kernels.catalog import KERNELS as KNOWN

    assert set(KERNELS) == set(KNOWN)


def test_dtypes_are_those_the_workers_know() -> None:
    from tmax.cli.verbs.kernel_verb import DTYPES
    from tmax_workers.kernels.backends import ITEM_BYTES

    assert tuple(ITEM_BYTES) == DTYPES


@pytest.mark.parametrize(
    "line, told",
    [
        ("--dtype f8", "'f8' is not one of: float64, float32"),
        ("--n -1", "'-1' is not a whole number of 1 or more"),
        ("--n 0", "'0' is not a whole number of 1 or more"),
    ],
)
def test_a_kernel_that_no_worker_could_run_is_refused_before_it_is_queued(line: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parsed_line(f"kernel matmul {line}")


def test_states_are_those_of_the_model() -> None:
    from tmax.cli.verbs.ps import STATES
    from tmax.core.model import TaskState

    assert set(STATES) == {state.value for state in TaskState}


def test_two_dashes_are_no_value_unless_written_as_one() -> None:
    with pytest.raises(UsageError, match=r"^--grace: no value given$"):
        parsed_line("submit --grace -- true")
    with pytest.raises(UsageError, match=r"^-p: no value given$"):
        parsed_line("submit -p -- true")
    line = parsed_line("submit --request-id=-- true")
    assert line is not None
    assert line.own == {"request_id": "--"}


@pytest.mark.parametrize("text", ["", "m", "m:", ":f"])
def test_a_function_without_module_or_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not MODULE:FUNCTION"):
        parse(["submit", "--py", text], verbs.verb_named, verbs.DEFAULT)


def test_more_workers_than_a_swarm_may_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^-n: 4097 is too large: at most 4096$"):
        parsed_line("init -n 4097")


def test_the_mark_of_the_standard_library_is_that_of_jobs() -> None:
    from tmax.cli.task_request import STDLIB
    from tmax_pipes import jobs

    assert STDLIB == jobs.STDLIB
