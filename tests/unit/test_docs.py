"""The documents say what there is: verbs, exit codes, words, files; and a link leads somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from tmax.api.task_errors import SwarmGone, TaskDead, TaskFailed, TaskInterrupted, TaskTimeout
from tmax.cli.verbs import FILES
from tmax.config import load
from tmax.core.model import DELIVERY_OF_KIND, TaskState, WorkerState
from tmax.errors import ExitCode
from tmax_pipes.messages import FromWorker, ToWorker
from tmax_workers.kernels.catalog import KERNELS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def verbs() -> set[str]:
    return set(FILES)


def commands(text: str) -> list[str]:
    """What follows ``tmax`` in code: the first word that is no option."""
    code = [match.group() for match in re.finditer(r"^```.*?^```|`[^`\n]+`", text, re.MULTILINE | re.DOTALL)]
    code = [one for one in code if not one.startswith("```python")]
    return [found for one in code for found in re.findall(r"(?:^|[\s`($])tmax ([a-z]+)", one)]


def section(text: str, head: str) -> str:
    return text.split(f"\n## {head}\n", 1)[1].split("\n## ", 1)[0]


def test_every_verb_is_in_the_table_of_the_first_page() -> None:
    table = set(re.findall(r"`tmax ([a-z]+)`", section(README, "Verbs")))
    assert table == verbs()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_verb_that_does_not_exist(page: Path) -> None:
    assert set(commands(page.read_text(encoding="utf-8"))) - {"status"} <= verbs()


def test_the_exit_codes_are_those_of_the_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section(README, "Exit codes"), re.MULTILINE)}
    assert codes == {value for name, value in vars(ExitCode).items() if name.isupper()}


def test_the_settings_shown_are_settings(tmp_path: Path) -> None:
    shown = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    (tmp_path / "tmax.toml").write_text(shown[1])
    config = load(env={"HOME": str(tmp_path)}, cwd=str(tmp_path))
    given = {f"{group}.{key}" for group, keys in tomllib.loads(shown[1]).items() for key in keys}
    assert {name for name, origin in config.origins.items() if origin != "default"} == given
    assert config.settings.tasks.grace_s == 5.0


def test_settings_in_the_environment_are_settings() -> None:
    variables = dict(re.findall(r"`(TMAX_[A-Z]+__[A-Z_]+)=([^`]+)`", README))
    assert len(variables) == 3
    load(env={"HOME": "/nonexistent", **variables}, cwd="/")


def test_the_test_command_is_named() -> None:
    assert "scripts/test      # sets up and passes the whole test suite; this is the test command" in README
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", [TaskFailed, TaskTimeout, TaskDead, TaskInterrupted, SwarmGone])
def test_what_a_future_raises_is_told(error: type[Any]) -> None:
    assert f"{error.__name__}`" in section(README, "Python")


def test_the_kernels_are_told() -> None:
    for kernel in KERNELS:
        assert f"`{kernel}`" in README and f"`{kernel}`" in GLOSSARY


def test_the_glossary_has_the_words_of_the_code() -> None:
    words = set(re.findall(r"\*\*([A-Za-z][A-Za-z -]*)\*\*", GLOSSARY))
    assert {kind.__name__ for kind in (*get_args(ToWorker), *get_args(FromWorker))} <= words
    assert {state.value for state in (*TaskState, *WorkerState)} <= words
    assert all(f"`{kind}`" in GLOSSARY for kind in DELIVERY_OF_KIND)
    decided = "Swarm Controller Worker Life Session Pool Task Job Attempt Lease Frame Engine Spawner Kernel Pipeline phase"
    assert set(decided.split()) <= words


def test_no_word_is_defined_twice() -> None:
    defined = re.findall(r"^\*\*([^*]+)\*\*[^*\n]*:", GLOSSARY, re.MULTILINE)
    assert len(defined) > 40
    assert len(defined) == len(set(defined))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    """``path/file.py`` in a page is a path from the root, or from a package."""
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md|toml))`", page.read_text(encoding="utf-8")))
    places = ("", "tmax", "workers", "workers/tmax_workers", "pipes", "dashboard")
    roots = [*(ROOT / place for place in places), page.parent]
    gone = {name for name in named if not any((root / name).exists() for root in roots)}
    assert not gone


def test_every_decision_is_in_the_list_and_has_its_parts() -> None:
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert f"(decisions/{page.name})" in listed
        assert text.startswith(f"# {page.name[:3]}: ")
        for part in ("**Question.**", "**Choice.**", "**What would change our mind.**"):
            assert part in text, f"{page.name} lacks {part}"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=name_of)
def test_one_sentence_a_line(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    two = [line for line in prose if not line.startswith("|") and re.search(r"[a-z`)\]*]\. [A-Z]", line)]
    assert not two
