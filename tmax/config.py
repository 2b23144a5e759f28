"""Configuration by people: where settings are written, which layer wins, and validation.

    defaults  <  user file  <  project file  <  environment  <  flags
                 |             |                 TMAX_GROUP__KEY
                 |             tmax.toml, or [tool.tmax] in pyproject.toml, from the working directory upward
                 $XDG_CONFIG_HOME/tmax/config.toml

    load() -> Config(settings, origins)  --dump()-->  settings.json  --read()-->  the controller (no pydantic there)

Every value is validated in its layer, also one that a later layer replaces, so that a mistake is reported at once with
its file and line. Unknown names are errors; variables without a double underscore are ignored.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin, get_type_hints

import msgspec

from tmax.core.settings import Settings
from tmax.errors import ConfigError
from tmax_pipes.durable_files import atomic_write

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BINARY = {letter: 1024**power for power, letter in enumerate("kmgt", start=1)}
BYTES = {
    "": 1,
    "b": 1,
    **_BINARY,
    **{f"{letter}ib": size for letter, size in _BINARY.items()},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
}
"""``K`` and ``KiB`` are 1,024, ``KB`` is 1,000; upper or lower case."""

_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
"""Constraints with the same name in ``msgspec.Meta`` and pydantic's ``Field``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings and their origins."""

    settings: Settings
    origins: Mapping[str, str]
    """By ``group.key``: ``default``, ``PATH:LINE``, ``environment NAME`` or ``flag``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSetting:
    """A value from one layer. ``text``: the layer has text only, so the value is converted leniently."""

    name: str
    value: object
    origin: str
    text: bool = False
    file: bool = False
    """It comes from a file."""


def load(flags: Mapping[str, object] | None = None, env: Mapping[str, str] = os.environ, cwd: str | None = None) -> Config:
    """Return the settings of all layers. ``flags``: by ``group.key``, None for one that was not given. ``cwd``: None for this process's.

    Raises ConfigError for an unknown name, a wrong value, or a file that cannot be read; the message names file and line.
    """
    values: dict[str, object] = {}
    origins = dict.fromkeys(known(), "default")
    for given in (*from_files(env, cwd), *from_environment(env), *_from_flags(flags or {})):
        values[given.name] = check(given)
        origins[given.name] = given.origin
    groups = {}
    for group, kind in get_type_hints(Settings).items():
        mine = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{group}.")}
        groups[group] = kind(**mine)
    return Config(settings=Settings(**groups), origins=origins)


def dump(settings: Settings, path: str) -> None:
    """Write settings for the controller, whole or not at all, mode 0600. Raises ConfigError."""
    try:
        atomic_write(path, msgspec.json.encode(settings))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="check the rights and the disk of its folder") from error


def read(path: str) -> Settings:
    """Return what ``dump`` wrote; a setting that this version does not know is ignored. Raises ConfigError."""
    again = "write it anew with: tmax init"
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Settings)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=again) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not what tmax wrote: {error}", hint=again) from error


# -- names and values ------------------------------------------------------------------------------


@functools.cache
def known() -> dict[str, Any]:
    """Return the type of every setting, by ``group.key``."""
    found = {}
    for group, kind in get_type_hints(Settings).items():
        for key, hint in get_type_hints(kind, include_extras=True).items():
            found[f"{group}.{key}"] = hint
    return found


def check(given: GivenSetting) -> object:
    """Return the value converted to its setting's type. Raises ConfigError."""
    if given.name not in known():
        raise _unknown(given)
    value = given.value
    wants_list = get_origin(known()[given.name]) is tuple
    if isinstance(value, list):
        value = tuple(value)
    elif wants_list and given.text and isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        if isinstance(value, str) and given.name.endswith("_s"):
            value = seconds(value)
        elif isinstance(value, str) and given.name.endswith("_bytes"):
            value = size(value)
        if not given.file and (plain := _plain(given, value)) is not None:
            return plain
        # A file has types, so `workers = true` is a mistake there; a variable has text only, so "4" means 4.
        checked = _adapter(given.name).validate_python(value, strict=not given.text)
        msgspec.json.encode(checked)  # half a surrogate pair (a stray byte in a variable) would be found only at the dump
    except ValueError as error:  # pydantic's ValidationError is one
        raise ConfigError(f"{given.origin}: {given.name} = {_shown(given.value)}: {_reason(error)}", hint=_example(given.name)) from error
    return cast("object", checked)


def _plain(given: GivenSetting, value: object) -> object | None:
    """Return the value of a flag or a variable if it is valid; None: pydantic validates it and explains the error.

    Importing pydantic takes as long as a worker needs to get ready, and every ``init`` would wait for it.
    """
    try:
        plain = cast("object", msgspec.convert(value, known()[given.name], strict=not given.text))
        msgspec.json.encode(plain)
    except ValueError:  # msgspec's ValidationError is one
        return None
    return plain


def seconds(text: str) -> float:
    """Return ``"30m"``, ``"1h30m"``, ``"250 ms"`` or ``"2.5"`` as seconds. Raises ValueError."""
    return _quantity(text, SECONDS, "a time such as 30, 250ms, 10s, 30m or 1h30m")


def size(text: str) -> int:
    """Return ``"16MiB"``, ``"1.5 GB"`` or ``"4096"`` as bytes. Raises ValueError."""
    return round(_quantity(text.lower(), BYTES, "a size such as 4096, 64K, 16MiB or 1GB"))


def _quantity(text: str, units: Mapping[str, float], wanted: str) -> float:
    parts = re.findall(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    whole = re.fullmatch(r"(?:\s*\d+(?:\.\d+)?\s*[a-z]*\s*)+", text)
    if not whole or any(unit not in units for _, unit in parts) or (len(parts) > 1 and any(not unit for _, unit in parts)):
        raise ValueError(f"should be {wanted}")
    return sum(float(number) * units[unit] for number, unit in parts)


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    """Translate the constraints of a setting from msgspec to pydantic; the controller uses msgspec only."""
    from pydantic import Field, TypeAdapter

    hint = known()[name]
    if get_origin(hint) is not Annotated:
        return TypeAdapter(hint)
    base, *metas = get_args(hint)
    limits = {limit: getattr(meta, limit) for meta in metas for limit in _LIMITS if getattr(meta, limit, None) is not None}
    if base is float:
        limits["allow_inf_nan"] = False
    return TypeAdapter(Annotated[base, Field(**limits)])


def _reason(error: ValueError) -> str:
    details = getattr(error, "errors", None)
    if details is None:
        return str(error)
    reason = str(details()[0]["msg"])
    return reason[0].lower() + reason[1:]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _example(name: str) -> str:
    group, _, key = name.partition(".")
    default = getattr(getattr(Settings(), group), key)
    return f"the default is {name} = {list(default) if isinstance(default, tuple) else default!r}"


def _unknown(given: GivenSetting) -> ConfigError:
    import difflib  # here, and tomllib below: the controller reads its settings through this module and starts without them

    group, _, key = given.name.lower().partition(".")
    groups: dict[str, list[str]] = {}
    for name in known():
        groups.setdefault(name.partition(".")[0], []).append(name.partition(".")[2])
    name_given = key or group
    if group in groups:
        what, own = f"setting {given.name!r}", [f"{group}.{near}" for near in difflib.get_close_matches(key, groups[group], 1)]
    else:
        what, own = f"group {given.name.partition('.')[0]!r}", difflib.get_close_matches(given.name.lower(), [*known(), *groups], 1)
    exact = [f"{other}.{name_given}" for other in groups if name_given in groups[other]]
    near = next(iter((*exact, *own)), "")
    if not near:
        return ConfigError(
            f"{given.origin}: unknown {what}",
            hint=f"{group} has: {', '.join(groups[group])}" if group in groups else f"groups are: {', '.join(groups)}",
        )
    written = f"TMAX_{near.replace('.', '__').upper()}" if given.origin.startswith("environment ") else near
    return ConfigError(f"{given.origin}: unknown {what}", hint=f"did you mean {written}?")


# -- layers ----------------------------------------------------------------------------------------


def from_environment(env: Mapping[str, str]) -> Iterator[GivenSetting]:
    """Yield ``TMAX_GROUP__KEY`` variables. Names with one underscore only (``TMAX_SWARM``, what a task gets) are not settings."""
    for variable in sorted(env):
        if variable.startswith("TMAX_") and "__" in variable:
            group, _, key = variable.removeprefix("TMAX_").partition("__")
            # Only capitals: `tmax_swarm__pool` in another case would be a second name for one setting.
            name = f"{group}.{key}".lower() if variable.isupper() else f"{group}.{key}"
            yield GivenSetting(name=name, value=env[variable], origin=f"environment {variable}", text=True)


def _from_flags(flags: Mapping[str, object]) -> Iterator[GivenSetting]:
    for name, value in flags.items():
        if value is not None:
            yield GivenSetting(name=name, value=value, origin="flag", text=isinstance(value, str))


def from_files(env: Mapping[str, str], cwd: str | None) -> Iterator[GivenSetting]:
    """Yield the settings of the user file, then those of the project file. Raises ConfigError."""
    home = env.get("HOME") or os.path.expanduser("~")
    base = env.get("XDG_CONFIG_HOME") or ""
    user = f"{base if base.startswith('/') else f'{home}/.config'}/tmax/config.toml"
    text = read_text(user)
    if text is not None:
        yield from _from_toml(user, text, ())
    try:
        here = os.path.realpath(cwd if cwd is not None else os.getcwd())
    except FileNotFoundError:
        return  # the working directory was removed: no project is here
    found = find_project(here, os.path.realpath(home))
    if found and found[0] != os.path.realpath(user):
        yield from _from_toml(*found)


def find_project(cwd: str, home: str) -> tuple[str, str, tuple[str, ...]] | None:
    """Return path, text and table of the nearest project file from ``cwd`` upward, not beyond ``home`` when that is above it.

    Raises ConfigError for one that cannot be read, and for one that another user may have put there: it can name an interpreter.
    """
    folder = cwd
    while True:
        path = os.path.join(folder, "tmax.toml")
        text = read_text(path)
        if text is not None:
            _refuse_planted(path, cwd)
            return path, text, ()
        path = os.path.join(folder, "pyproject.toml")
        text = _pyproject(path)
        if text is not None:
            _refuse_planted(path, cwd)
            return path, text, ("tool", "tmax")
        above = os.path.dirname(folder)
        if folder in {home, above}:
            return None
        folder = above


def _pyproject(path: str) -> str | None:
    """Return its text if it has a table of tmax. Errors elsewhere in the file are not reported."""
    import tomllib

    try:
        text = read_text(path)
    except ConfigError:
        return None
    if text is None or "tmax" not in text:
        return None
    try:
        tools = tomllib.loads(text).get("tool")
        return text if isinstance(tools, dict) and "tmax" in tools else None
    except tomllib.TOMLDecodeError:
        return text if re.search(r"^\s*\[\s*tool\s*\.\s*tmax\b", text, re.MULTILINE) else None


def _refuse_planted(path: str, cwd: str) -> None:
    """Refuse a file that is not owned by this user, root, or the owner of the working directory."""
    found = os.stat(path)
    trusted = {os.geteuid(), 0, os.stat(cwd).st_uid}
    if found.st_uid not in trusted or (found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX):
        why = f"belongs to another user (uid {found.st_uid})" if found.st_uid not in trusted else "may be written by everyone"
        raise ConfigError(f"{path} {why}; its settings could start any program", hint=f"remove it, or make it yours: ls -l {path}")


def read_text(path: str) -> str | None:
    """Return a file's text, None when there is none. Raises ConfigError for one that cannot be read as text."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path} is not a file", hint=f"move it away: mv {path} {path}.aside")
        with open(path, "rb") as file:
            data = file.read()
        return data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=f"see ls -l {path}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: byte {error.object[error.start]:#04x} is not UTF-8", hint="save the file as UTF-8") from error


def _from_toml(path: str, text: str, prefix: tuple[str, ...]) -> Iterator[GivenSetting]:
    import tomllib

    try:
        table: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}:{_place(str(error), text)}", hint="see toml.io for how values are written; text needs quotes") from error
    for step in prefix:
        table = table.get(step, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {'.'.join(prefix)} is not a table")
    for group, keys in table.items():
        if isinstance(keys, dict) and keys:
            for key, value in keys.items():
                yield GivenSetting(name=f"{group}.{key}", value=value, origin=_origin(path, text, (*prefix, group, key)), file=True)
        elif not isinstance(keys, dict) or group not in get_type_hints(Settings):
            yield GivenSetting(name=group, value=keys, origin=_origin(path, text, (*prefix, group)))


def _place(message: str, text: str) -> str:
    found = re.fullmatch(r"(.*?)\s*\(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if not found:
        return f" {message}"
    line, column = (found[2], found[3]) if found[2] else (str(text.count("\n") + 1), "1")
    return f"{line}:{column}: {found[1]}"


def _origin(path: str, text: str, names: tuple[str, ...]) -> str:
    line = line_of(text, names)
    return f"{path}:{line}" if line else path


def line_of(text: str, names: tuple[str, ...]) -> int:
    """Return the line on which a TOML text sets this name, 0 when it is not found.

    ``tomllib`` keeps no positions, so this searches headers and names line by line; inside a multi-line string it may
    find a wrong line.
    """
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            table = _names(header[1])
            if table == names:
                return number
            continue
        assignment = re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line)
        if assignment:
            full = (*table, *_names(assignment[1]))
            inline = len(full) < len(names) and full == names[: len(full)] and names[-1] in line
            if full == names or inline:
                return number
    return 0


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
