"""Settings: their sources, their precedence, and the messages about mistakes."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.config import _LIMITS, Config, dump, known, line_of, load, read, seconds, size
from tmax.core.settings import Settings, StoreSettings, SwarmSettings
from tmax.errors import ConfigError, ExitCode

ROOT = Path(__file__).resolve().parents[3]


class Place:
    """A home with a project in it, and a variable or two."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = self.home / "code" / "project"
        self.deep = self.project / "src" / "deep"
        self.deep.mkdir(parents=True)
        self.env = {"HOME": str(self.home), "PATH": "/bin", "TMAX_SWARM": "other"}
        self.user = self.home / ".config" / "tmax" / "config.toml"
        self.user.parent.mkdir(parents=True)

    def load(self, flags: dict[str, object] | None = None, cwd: Path | None = None, **env: str) -> Config:
        return load(flags, {**self.env, **env}, str(cwd or self.deep))

    def wrong(self, flags: dict[str, object] | None = None, cwd: Path | None = None, **env: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            self.load(flags, cwd, **env)
        assert caught.value.exit_code == ExitCode.USAGE
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path.resolve())


# -- layers ----------------------------------------------------------------------------------------


def test_without_anything_all_is_default(place: Place) -> None:
    config = place.load()
    assert config.settings == Settings()
    assert set(config.origins) == set(known()) and set(config.origins.values()) == {"default"}


def test_each_layer_wins_over_the_one_before(place: Place) -> None:
    def workers() -> tuple[int, str]:
        config = place.load(flags, **env)
        return config.settings.swarm.workers, config.origins["swarm.workers"]

    flags: dict[str, object] = {"swarm.workers": None}
    env: dict[str, str] = {}
    assert workers() == (0, "default")
    place.user.write_text("# mine\n[swarm]\nworkers = 1\npool = 7\n")
    assert workers() == (1, f"{place.user}:3")
    (place.project / "tmax.toml").write_text("[swarm]\nworkers = 2\n")
    assert workers() == (2, f"{place.project}/tmax.toml:2")
    env["TMAX_SWARM__WORKERS"] = "3"
    assert workers() == (3, "environment TMAX_SWARM__WORKERS")
    flags["swarm.workers"] = 4
    assert workers() == (4, "flag")
    assert place.load(flags, **env).settings.swarm.pool == 7, "what a stronger layer does not name is kept"


def test_the_user_file_is_where_xdg_says(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "xdg" / "tmax" / "config.toml"
    other.parent.mkdir(parents=True)
    other.write_text("[swarm]\npool = 5\n")
    place.user.write_text("[swarm]\npool = 6\n")
    assert place.load(XDG_CONFIG_HOME=str(tmp_path / "xdg")).settings.swarm.pool == 5
    assert place.load(XDG_CONFIG_HOME="relative").settings.swarm.pool == 6
    assert place.load(XDG_CONFIG_HOME="").settings.swarm.pool == 6


def test_pyproject_is_read_where_it_has_our_table(place: Place) -> None:
    (place.project / "pyproject.toml").write_text('[project]\nname = "x"\n\n[tool.tmax.tasks]\nretries = 2\ngrace_s = "1m"\n')
    config = place.load()
    assert config.settings.tasks.retries == 2 and config.settings.tasks.grace_s == 60.0
    assert config.origins["tasks.retries"] == f"{place.project}/pyproject.toml:5"
    (place.project / "tmax.toml").write_text("[tasks]\nretries = 3\n")
    assert place.load().settings.tasks.retries == 3, "a file of our own goes first"


@pytest.mark.parametrize(
    "text", ['[project]\nname = "tmax"\n', "[project\nbroken about tmax", "[tool]\ntmaxed = 1\n", 'tool = "tmax"\n', "\xff"]
)
def test_a_pyproject_without_our_table_is_ignored(place: Place, text: str) -> None:
    (place.deep / "pyproject.toml").write_bytes(text.encode("latin-1"))
    (place.project / "tmax.toml").write_text("[tasks]\nretries = 3\n")
    assert place.load().settings.tasks.retries == 3


def test_the_nearest_project_file_is_taken_alone(place: Place) -> None:
    (place.deep / "tmax.toml").write_text("[swarm]\nworkers = 2\n")
    (place.project / "tmax.toml").write_text("[swarm]\nworkers = 3\npool = 3\n")
    assert place.load().settings.swarm == SwarmSettings(workers=2)
    assert place.load(cwd=place.project).settings.swarm == SwarmSettings(workers=3, pool=3)


def test_no_project_file_is_read_above_home(place: Place) -> None:
    (place.home.parent / "tmax.toml").write_text("[swarm]\nworkers = 2\n")
    assert place.load().settings.swarm.workers == 0
    assert place.load(cwd=place.home.parent).settings.swarm.workers == 2


def test_a_working_directory_that_is_gone_has_no_project(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = place.home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load({}, place.env).settings == Settings()


# -- values ----------------------------------------------------------------------------------------


def test_every_kind_of_value_in_a_file(place: Place) -> None:
    place.user.write_text(
        'swarm.preload = ["numpy", "torch"]\n'
        'swarm.spawner = "exec"\n'
        "[tasks]\ngrace_s = 3\nretry_delay_s = 0.25\nage_step_s = '2h'\n"
        '[store]\nballast_bytes = "64MiB"\ndurability = "normal"\n[tmux]\nmouse = true\n'
    )
    config = place.load()
    found = config.settings
    assert found.swarm.preload == ("numpy", "torch") and found.swarm.spawner == "exec"
    assert (found.tasks.grace_s, found.tasks.retry_delay_s, found.tasks.age_step_s) == (3.0, 0.25, 7200.0)
    assert found.store == StoreSettings(ballast_bytes=64 << 20, durability="normal")
    assert found.tmux.mouse is True
    assert config.origins["swarm.spawner"] == f"{place.user}:2"


def test_every_kind_of_value_in_the_environment(place: Place) -> None:
    found = place.load(
        TMAX_SWARM__PRELOAD="numpy, torch,",
        TMAX_SWARM__PYTHON="/opt/py, thon",
        TMAX_TASKS__GRACE_S="1m",
        TMAX_TASKS__RETRY_DELAY_S="0.5",
        TMAX_STORE__BALLAST_BYTES="0",
        TMAX_DASHBOARD__ENABLED="no",
    ).settings
    assert found.swarm == SwarmSettings(preload=("numpy", "torch"), python="/opt/py, thon")
    assert (found.tasks.grace_s, found.tasks.retry_delay_s, found.store.ballast_bytes) == (60.0, 0.5, 0)
    assert found.dashboard.enabled is False
    assert place.load(TMAX_SWARM__PRELOAD="").settings.swarm.preload == ()


def test_flags_may_be_typed_or_text(place: Place) -> None:
    flags: dict[str, object] = {"swarm.preload": ["numpy"], "worker.threads": "2", "tasks.grace_s": "2m", "tmux.mouse": True}
    found = place.load(flags).settings
    assert (found.swarm.preload, found.worker.threads, found.tasks.grace_s, found.tmux.mouse) == (("numpy",), 2, 120.0, True)


@pytest.mark.parametrize(
    "text, wanted",
    [("30", 30), ("2.5", 2.5), ("250ms", 0.25), ("10s", 10), (" 30 m ", 1800), ("1h30m", 5400), ("1h 30min 5s", 5405), ("2d", 172800)],
)
def test_times(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("4096", 4096),
        ("16MiB", 16 << 20),
        ("16 mib", 16 << 20),
        ("64K", 65536),
        ("1GB", 10**9),
        ("1.5k", 1536),
        ("3B", 3),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes(text: str, wanted: int) -> None:
    assert size(text) == wanted


@pytest.mark.parametrize("text", ["", " ", "m", "-1", "1x", "1 30m", "30m 5", "1e3", "inf", "0x10", "ten", "1..2", "1,5"])
def test_what_is_no_quantity(text: str) -> None:
    for reader in (seconds, size):
        with pytest.raises(ValueError, match="such as"):
            reader(text)


@given(st.text(max_size=30))
def test_no_text_breaks_the_readers(text: str) -> None:
    for reader in (seconds, size):
        try:
            assert reader(text) >= 0
        except ValueError:
            pass


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, place_in_file, reason",
    [
        ("[swarm]\nworkers = '4'\n", ":2", "valid integer"),
        ("[swarm]\nworkers = true\n", ":2", "valid integer"),
        ("[swarm]\nworkers = 1.5\n", ":2", "valid integer"),
        ("[swarm]\n\nworkers = -1\n", ":3", "greater than or equal to 0"),
        ("[tasks]\ndeliveries = 0\n", ":2", "greater than or equal to 1"),
        ("[tasks]\ngrace_s = 0\n", ":2", "greater than 0"),
        ("[tasks]\ngrace_s = 1000000001\n", ":2", "less than or equal to 1000000000"),
        ("[tasks]\nretries = 2147483649\n", ":2", "less than or equal to 2147483648"),
        ("[tasks]\ndeliveries = 2147483649\n", ":2", "less than or equal to 2147483648"),
        ("[tasks]\ngrace_s = inf\n", ":2", "finite"),
        ("[tasks]\ngrace_s = nan\n", ":2", "finite"),
        ("[tasks]\ngrace_s = 'soon'\n", ":2", "a time such as"),
        ("[tasks]\ngrace_s = '0s'\n", ":2", "greater than 0"),
        ("[store]\nballast_bytes = 'big'\n", ":2", "a size such as"),
        ("[store]\ndurability = 'maybe'\n", ":2", "'full' or 'normal'"),
        ("[swarm]\npreload = 'numpy'\n", ":2", "valid tuple"),
        ("[swarm]\npreload = [1]\n", ":2", "valid string"),
        ("[swarm]\npython = 3\n", ":2", "valid string"),
        ("[tmux]\nmouse = 'yes'\n", ":2", "valid boolean"),
        ("[tmux]\nmouse = 2026-01-01\n", ":2", "valid boolean"),
        ("[dashboard]\nrefresh_s = {a = 1}\n", ":2", "valid number"),
        ("swarm = 3\n", ":1", "unknown"),
        ("[[swarm]]\nworkers = 1\n", "", "unknown"),
    ],
)
def test_a_wrong_value_is_reported_with_its_line(place: Place, text: str, place_in_file: str, reason: str) -> None:
    place.user.write_text(text)
    error = place.wrong()
    assert error.message.startswith(f"{place.user}{place_in_file}"), error.message
    assert reason in error.message and error.hint
    (place.project / "tmax.toml").write_text(text)
    place.user.unlink()
    assert place.wrong().message.startswith(f"{place.project}/tmax.toml{place_in_file}")


def test_a_wrong_value_is_reported_though_a_stronger_layer_replaces_it(place: Place) -> None:
    place.user.write_text("[swarm]\nworkers = 'many'\n")
    assert "config.toml:2" in place.wrong({"swarm.workers": 4}).message


@pytest.mark.parametrize(
    "text, hint",
    [
        ("[swarm]\nworker = 4\n", "did you mean swarm.workers?"),
        ("[swarms]\nworkers = 4\n", "did you mean swarm.workers?"),
        ("[swarm]\nretries = 1\n", "did you mean tasks.retries?"),
        ("workers = 4\n", "did you mean swarm.workers?"),
        ("swarn = 4\n", "did you mean swarm?"),
        ("[swarm]\nqqqq = 1\n", "swarm has: workers, pool"),
        ("[zzzz]\n", "groups are: swarm, tasks"),
        ("[zzzz]\nqqqq = 1\n", "groups are: swarm, tasks"),
        ("[swarm.workers]\nx = 1\n", "the default is swarm.workers = 0"),
    ],
)
def test_unknown_names_in_a_file(place: Place, text: str, hint: str) -> None:
    place.user.write_text(text)
    error = place.wrong()
    assert error.message.startswith(f"{place.user}:"), error.message
    assert hint in error.hint, error.hint


@pytest.mark.parametrize(
    "variable, hint",
    [
        ("TMAX_SWARM__WORKRES", "did you mean TMAX_SWARM__WORKERS?"),
        ("TMAX_SWRM__WORKERS", "did you mean TMAX_SWARM__WORKERS?"),
        ("TMAX_SWARM__workers", "did you mean TMAX_SWARM__WORKERS?"),
        ("TMAX_SWARM__", "swarm has: workers, pool"),
        ("TMAX___", "groups are"),
        ("TMAX_SWARM__WORKERS__X", "did you mean TMAX_SWARM__WORKERS?"),
    ],
)
def test_unknown_variables(place: Place, variable: str, hint: str) -> None:
    error = place.wrong(**{variable: "4"})
    assert variable in error.message and "unknown" in error.message
    assert hint in error.hint, error.hint


@pytest.mark.parametrize("variable", ["TMAX_SWARM", "TMAX_TASK_ID", "XTMAX_SWARM__WORKERS", "TMAX"])
def test_other_variables_are_ignored(place: Place, variable: str) -> None:
    assert place.load(**{variable: "nonsense"}).settings == Settings()


@pytest.mark.parametrize("value", ["", "four", "4.5", "-1", "4 5", "٤x", "\udcff"])
def test_wrong_variables_are_named(place: Place, value: str) -> None:
    error = place.wrong(TMAX_SWARM__WORKERS=value)
    assert error.message.startswith("environment TMAX_SWARM__WORKERS: swarm.workers = ")


def test_text_that_is_no_text_is_refused(place: Place) -> None:
    assert "TMAX_SWARM__PYTHON" in place.wrong(TMAX_SWARM__PYTHON="/bin/\udcff").message


def test_wrong_flags(place: Place) -> None:
    assert place.wrong({"swarm.workers": -1}).message.startswith("flag: swarm.workers = -1")
    assert place.wrong({"swarm.wokers": 1}).hint == "did you mean swarm.workers?"
    assert place.wrong({"swarm.workers": object()}).message.startswith("flag: swarm.workers = <object")


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, where",
    [
        ("[swarm]\nworkers = \n", ":2:11: "),
        ("[swarm\nworkers = 1\n", ":1:7: "),
        ("[swarm]\nworkers = 1\nworkers = 2\n", ":3:"),
        ("[swarm]\npython = 'x", ":2:"),
        ("[swarm]\npreload = [1,\n\n", ":4:1: "),
        ("[swarm]\nworkers = four\n", ":2:11: "),
    ],
)
def test_broken_toml_is_reported_with_line_and_column(place: Place, text: str, where: str) -> None:
    place.user.write_text(text)
    assert place.wrong().message.startswith(f"{place.user}{where}"), place.wrong().message


def test_broken_toml_of_ours_in_pyproject_is_reported(place: Place) -> None:
    (place.project / "pyproject.toml").write_text("[tool.tmax.swarm]\nworkers = \n")
    assert place.wrong().message.startswith(f"{place.project}/pyproject.toml:2:")


def test_a_tool_entry_that_is_no_table_is_reported(place: Place) -> None:
    (place.project / "pyproject.toml").write_text("[tool]\ntmax = 4\n")
    assert "tool.tmax is not a table" in place.wrong().message


def test_a_file_that_is_not_utf8_is_reported_with_the_place(place: Place) -> None:
    place.user.write_bytes(b"[swarm]\n# caf\xe9\nworkers = 1\n")
    error = place.wrong()
    assert error.message.startswith(f"{place.user}:2: byte 0xe9")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "fifo"])
@pytest.mark.parametrize("where", ["user", "project"])
def test_what_is_no_file_is_reported_without_waiting(place: Place, make: Callable[[str], None], where: str) -> None:
    path = str(place.user if where == "user" else place.project / "tmax.toml")
    make(path)
    error = place.wrong()
    assert path in error.message and "not a file" in error.message


def test_an_empty_file_and_empty_groups_set_nothing(place: Place) -> None:
    place.user.write_text("")
    (place.project / "tmax.toml").write_text("[swarm]\n[tasks]\n")
    assert place.load().settings == Settings()


def test_a_file_without_the_right_to_read_it(place: Place) -> None:
    place.user.write_text("[swarm]\nworkers = 1\n")
    place.user.chmod(0)
    if os.geteuid() != 0:
        assert "cannot be read: Permission denied" in place.wrong().message
        return
    # Root may read everything, so another user asks: in a child, after its imports.
    for folder in (*place.user.parents,):
        if str(folder).startswith(str(place.home.parent.parent.parent)) and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    code = (
        "import os, sys; from tmax.config import load; import tmax.errors; os.setuid(65534)\n"
        "try: load({}, {'HOME': sys.argv[1]}, '/')\n"
        "except tmax.errors.ConfigError as error: print(error, '|', error.hint)"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/pipes"}
    ran = subprocess.run([sys.executable, "-c", code, str(place.home)], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert "cannot be read: Permission denied" in ran.stdout, ran.stdout + ran.stderr


def test_a_project_file_of_another_user_is_refused(place: Place) -> None:
    planted = place.home / "tmax.toml"
    planted.write_text("[swarm]\npython = '/tmp/evil'\n")
    planted.chmod(0o666)
    assert "written by everyone" in place.wrong().message
    planted.chmod(0o644)
    assert place.load().settings.swarm.python == "/tmp/evil"
    if os.geteuid() == 0:
        os.chown(planted, 65534, 65534)
        assert "another user (uid 65534)" in place.wrong().message
        os.chown(place.deep, 65534, 65534)
        assert place.load().settings.swarm.python == "/tmp/evil", "who works in another's folder has chosen it"


@pytest.mark.parametrize(
    "text, names, line",
    [
        ("a.b = 1", ("a", "b"), 1),
        ("[a]\nb = 1", ("a", "b"), 2),
        ("[ a ]\n 'b' = 1", ("a", "b"), 2),
        ("[x]\nb = 1\n[a]\n# b = 2\nb = 3", ("a", "b"), 5),
        ("a = {b = 1}", ("a", "b"), 1),
        ("[t.u]\na.b = 1", ("t", "u", "a", "b"), 2),
        ("[t.u.a]\nc = 0\nb = 1", ("t", "u", "a", "b"), 3),
        ("[a]", ("a",), 1),
        ("", ("a",), 0),
    ],
)
def test_the_line_of_a_name(text: str, names: tuple[str, ...], line: int) -> None:
    assert line_of(text, names) == line


# -- the machine's file ----------------------------------------------------------------------------


def test_what_was_dumped_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "settings.json")
    settings = Settings(swarm=SwarmSettings(workers=3, preload=("a", "b"), python="/opt/naïve"), store=StoreSettings(ballast_bytes=0))
    dump(settings, path)
    assert read(path) == settings
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    dump(Settings(), path)
    assert read(path) == Settings() and os.listdir(tmp_path) == ["settings.json"]


def test_a_file_of_another_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"swarm": {"workers": 2, "colour": "red"}, "later": {}}')
    assert read(str(path)) == Settings(swarm=SwarmSettings(workers=2))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"swarm": {"workers": "2"}}', b'{"swarm": {"workers": -2}}', b"\xff\xfe"])
def test_a_machines_file_that_is_broken(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="not what tmax wrote") as caught:
        read(str(path))
    assert "tmax init" in caught.value.hint


def test_a_machines_file_that_is_missing_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be written"):
        dump(Settings(), str(tmp_path / "none" / "settings.json"))


# -- what must stay true ---------------------------------------------------------------------------


def test_every_constraint_in_the_settings_is_one_we_translate() -> None:
    for name, hint in known().items():
        for meta in getattr(hint, "__metadata__", ()):
            assert isinstance(meta, msgspec.Meta), name
            used = {limit for limit in dir(meta) if not limit.startswith("_") and getattr(meta, limit) is not None}
            assert used <= set(_LIMITS), f"{name} uses {used - set(_LIMITS)}"


def test_a_default_is_a_value_that_would_be_accepted(place: Place) -> None:
    for name in known():
        group, key = name.split(".")
        default = getattr(getattr(Settings(), group), key)
        assert place.load({name: list(default) if isinstance(default, tuple) else default}).settings == Settings()


def test_reading_settings_imports_no_pydantic() -> None:
    code = "import sys, tmax.config; tmax.config.Settings(); print([m for m in ('pydantic', 'tomllib', 'difflib') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/pipes"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=True)
    assert ast.literal_eval(ran.stdout) == []
