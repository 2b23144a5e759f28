"""Runs a row as a user would, and returns its outcome."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fidelity.table import IMPORT, POOLS, Command, Program

LIMIT_S = 40
UMASK = 0o022


@dataclass(frozen=True)
class Outcome:
    """What a program printed, how it ended, and the files it left: name -> (mode, content)."""

    stdout: bytes
    code: int
    files: Mapping[str, tuple[str, bytes]]


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of one run, under the same name length for each."""
    made = Path(tempfile.mkdtemp(prefix="fid-", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Run:
    """A program under way in ``place``, with the pool of that name."""

    def __init__(self, row: Program, pool: str, place: Path, env: Mapping[str, str]) -> None:
        self._place = place
        for name, text in row.files.items():
            write_file(place / name, text.replace(IMPORT, POOLS[pool]))
        text = row.text.replace(IMPORT, POOLS[pool])
        given = dict(row.env)
        path = os.pathsep.join(filter(None, (given.pop("PYTHONPATH", ""), env["PYTHONPATH"])))
        self._stdin = text.encode() if row.how == "stdin" else b""
        words = {"file": ["prog.py"], "module": ["-m", "prog"], "command": ["-c", text], "stdin": ["-"]}[row.how]
        if row.how == "file":
            (place / "prog.py").write_text(text)
        if row.how == "module":
            (place / "prog" / "__main__.py").write_text(text)
        self._process = subprocess.Popen(
            [sys.executable, *row.options, *words, *row.args],
            cwd=place,
            env={**env, **given, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=UMASK,
        )
        self.stderr = ""

    def end(self) -> Outcome:
        """Wait for its end."""
        try:
            stdout, stderr = self._process.communicate(self._stdin, timeout=LIMIT_S)
        finally:
            self._process.kill()
        self.stderr = stderr.decode(errors="replace")
        return Outcome(stdout, self._process.returncode, files_of(self._place))


def write_file(path: Path, text: str) -> None:
    """Make a file of a row; ``.zip`` holds one member, written ``NAME:TEXT``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        name, _, content = text.partition(":")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
    else:
        path.write_text(text)


def files_of(place: Path) -> dict[str, tuple[str, bytes]]:
    """Return what lies there, but for the program itself."""
    found = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        is_data = stat.S_ISREG(status.st_mode) and path.suffix != ".pyc"  # compiled modules hold their file's time
        content = path.read_bytes() if is_data else b""
        found[str(path.relative_to(place))] = (stat.filemode(status.st_mode), content)
    # The program itself says which pool it uses.
    return {
        name: value
        for name, value in found.items()
        if name not in {"prog.py", "prog/__main__.py", "a/prog.py", "b/prog.py", "pack/run.py"} and not name.startswith(".git")
    }


def outcomes(row: Program, envs: Mapping[str, Mapping[str, str]]) -> tuple[Outcome, dict[str, Outcome], str]:
    """Run a program with the standard pool, and with ours on each engine, at one time.

    ``envs``: the environment by engine.  Returns the standard outcome, ours by ``engine pool``, and what they printed on stderr.
    """
    with ExitStack() as stack:
        runs = {"standard": Run(row, "standard", stack.enter_context(folder()), next(iter(envs.values())))}
        for engine, env in envs.items():
            for pool in row.pools:
                runs[f"{engine} {pool}"] = Run(row, pool, stack.enter_context(folder()), env)
        ends = {name: run.end() for name, run in runs.items()}
        printed = "\n".join(f"--- {name}\n{run.stderr}" for name, run in runs.items())
    return ends.pop("standard"), ends, printed


def run_line(row: Command, run: str, env: Mapping[str, str]) -> tuple[tuple[bytes, bytes, int], dict[str, tuple[str, bytes]]]:
    """Run a line of shell whose ``{run}`` is ``run``; return stdout, stderr and exit code, and the files it left."""
    with folder() as place:
        for name, content in row.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        process = subprocess.Popen(
            ["/bin/bash", "-c", row.line.replace("{run}", run)],
            cwd=place,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=UMASK,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # all of it has ended
        process.wait()
        here = str(place).encode()
        said = stdout.replace(here, b"FOLDER"), stderr.replace(here, b"FOLDER"), process.returncode
        return said, files_of(place)
