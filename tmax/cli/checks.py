"""The checks of ``doctor``: Python and its packages, the machine, the folders, the swarm.

A check returns lines and raises nothing: something that cannot be examined is a line, too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tmax.cli.request import request
from tmax.core.tables import size
from tmax.errors import NoSwarm, TmaxError
from tmax.layout import SUN_PATH_BYTES, Layout
from tmax.storage.filesystem import NETWORK, file_system_of
from tmax.version import __version__

State = Literal["ok", "warn", "fail"]
_PACKAGES = (
    "cloudpickle",
    "filelock",
    "libtmux",
    "msgspec",
    "numpy",
    "psutil",
    "pydantic",
    "textual",
    "threadpoolctl",
    "typer",
)
_LOW_SPACE_BYTES = 500_000_000
_FILES_EACH = 16
"""Upper bound of the controller's descriptors for one worker."""
_PROBE_S = 60.0
_PROBE = """
import json, sys
found = {}
try:
    import numpy
    found["numpy"] = numpy.__version__
except Exception as error:
    found["numpy_error"] = f"{type(error).__name__}: {error}"
try:
    import torch
    found["torch"] = torch.__version__
    found["cuda"] = [torch.cuda.get_device_name(one) for one in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    found["mps"] = bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())
except ModuleNotFoundError:
    found["torch"] = ""
except Exception as error:
    found["torch_error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the report; ``hint``: the command that helps."""

    name: str
    state: State
    detail: str
    hint: str = ""


def every_check(layout: Layout) -> list[Check]:
    """Return the lines of all checks, the fundamental ones first."""
    checks: list[Callable[[], list[Check]]] = [
        _python,
        _packages,
        _numeric,
        _threads,
        lambda: _tmux(layout),
        _kernel_features,
        _limits,
        _login,
        _configuration,
        lambda: [_folder("state", layout.state, "XDG_STATE_HOME"), _folder("runtime", layout.runtime, "XDG_RUNTIME_DIR")],
        lambda: [_socket_path(layout)],
        lambda: _swarm(layout),
        lambda: _leftovers(layout),
    ]
    return [line for check in checks for line in check()]


def _python() -> list[Check]:
    version = platform.python_version()
    detail = f"{version} ({sys.executable}), tmax {__version__} on {platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        return [Check(name="python", state="warn", detail=f"{detail}: only Linux is tested")]
    return [Check(name="python", state="ok", detail=detail)]


def _packages() -> list[Check]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        hint = f"{sys.executable} -m pip install {' '.join(missing)}"
        return [Check(name="packages", state="fail", detail=f"missing: {', '.join(missing)}", hint=hint)]
    return [Check(name="packages", state="ok", detail=", ".join(found))]


def _numeric() -> list[Check]:
    """NumPy and torch, imported in a child process: a broken driver can crash the process that imports torch."""
    try:
        done = subprocess.run([sys.executable, "-P", "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_S, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return [Check(name="numpy", state="fail", detail=f"cannot be imported: {error}", hint=f"{sys.executable} -c 'import numpy, torch'")]
    return [_numpy(found), _torch(found)]


def _numpy(found: dict[str, Any]) -> Check:
    if "numpy" in found:
        return Check(name="numpy", state="ok", detail=found["numpy"])
    return Check(name="numpy", state="fail", detail=found["numpy_error"], hint=f"{sys.executable} -m pip install --force-reinstall numpy")


def _torch(found: dict[str, Any]) -> Check:
    install = f"{sys.executable} -m pip install torch"
    if "torch_error" in found:
        return Check(name="torch", state="fail", detail=found["torch_error"], hint=f"{install} --force-reinstall")
    if not found["torch"]:
        return Check(name="torch", state="ok", detail="not installed (optional; kernels then run on NumPy)", hint=install)
    devices = [*found["cuda"], *(["Apple GPU (mps)"] if found["mps"] else [])]
    return Check(name="torch", state="ok", detail=f"{found['torch']}, device: {', '.join(devices) or 'cpu'}")


def _threads() -> list[Check]:
    from tmax.engines.machine import usable_cores

    cores = usable_cores()
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    fixed = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    detail = f"{cores} usable cores; each worker computes with cores / workers threads"
    if fixed:
        hint = f"unset {' '.join(one.partition('=')[0] for one in fixed)}"
        return [Check(name="threads", state="warn", detail=f"{detail}; your environment sets {', '.join(fixed)}", hint=hint)]
    return [Check(name="threads", state="ok", detail=detail)]


def _tmux(layout: Layout) -> list[Check]:
    if _engine(layout) != "tmux":
        return [Check(name="tmux", state="ok", detail="not needed: swarm.engine is not tmux")]
    from tmax.engines.tmux.libtmux_adapter import check, server_version, sessions

    try:
        version = check()
        server = server_version(layout)
        names = sessions(layout)
    except TmaxError as error:
        return [Check(name="tmux", state="fail", detail=error.message, hint=error.hint)]
    detail = f"{version} ({shutil.which('tmux')})"
    if server and server != version:
        hint = "tmax down && tmax init"
        return [Check(name="tmux", state="warn", detail=f"{detail}, but the swarm's server is {server}", hint=hint)]
    return [Check(name="tmux", state="ok", detail=f"{detail}; sessions: {' '.join(names)}" if names else detail)]


def _engine(layout: Layout) -> str:
    """Return the engine of the swarm's last start; of one that was never started, the one that the settings choose."""
    from tmax.config import load, read

    try:
        settings = read(layout.settings) if os.path.exists(layout.settings) else load({}).settings
    except TmaxError:
        return "tmux"  # reported as a line of its own
    return settings.swarm.engine


def _kernel_features() -> list[Check]:
    lines = []
    if os.path.exists("/proc/self/stat"):
        lines.append(Check(name="/proc", state="ok", detail="mounted"))
    else:
        lines.append(
            Check(name="/proc", state="fail", detail="not mounted; processes cannot be identified", hint="mount -t proc proc /proc")
        )
    try:
        os.close(os.pidfd_open(os.getpid()))
        lines.append(Check(name="pidfd", state="ok", detail="available"))
    except (AttributeError, OSError) as error:
        lines.append(
            Check(name="pidfd", state="fail", detail=f"not available ({error})", hint="use Linux 5.4 or newer, and allow pidfd_open")
        )
    return lines


def _limits() -> list[Check]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = (soft - 64) // _FILES_EACH
    detail = f"{soft} open files a process (at most {hard}): enough for about {enough} workers"
    if enough < 16:
        return [Check(name="limits", state="warn", detail=detail, hint="ulimit -n 4096")]
    return [Check(name="limits", state="ok", detail=detail)]


def _login() -> list[Check]:
    """Whether systemd ends a user's processes at logout."""
    if not os.path.isdir("/run/systemd/system") or shutil.which("loginctl") is None:
        return [Check(name="logout", state="ok", detail="no systemd: a swarm outlives the login")]
    try:
        command = ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Check(name="logout", state="warn", detail=f"loginctl failed ({error})")]
    if done.stdout.strip() == "yes":
        return [Check(name="logout", state="ok", detail="linger is on: a swarm outlives the login")]
    detail = "linger is off: systemd may end the swarm, and remove its runtime folder, at your last logout"
    return [Check(name="logout", state="warn", detail=detail, hint="loginctl enable-linger")]


def _configuration() -> list[Check]:
    from tmax.config import load

    try:
        origins = load({}).origins
    except TmaxError as error:
        return [Check(name="settings", state="fail", detail=error.message, hint=error.hint)]
    own = sum(origin != "default" for origin in origins.values())
    return [Check(name="settings", state="ok", detail=f"{own} of {len(origins)} set, the others at their defaults")]


def _folder(name: str, path: str, variable: str) -> Check:
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    missing = "" if there == path else "not created yet; "
    try:
        found = os.stat(there)
        kind = file_system_of(os.path.realpath(there), _mounts())
        free_bytes = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name=name, state="fail", detail=f"{path} cannot be examined: {error.strerror}", hint=f"ls -ld {there}")
    detail = f"{path} ({missing}{kind or 'unknown file system'}, {size(free_bytes)} free)"
    wrong = _wrong(path, there, found)
    if wrong:
        return Check(name=name, state="fail", detail=f"{detail}: {wrong[0]}", hint=wrong[1])
    if kind in NETWORK and name == "state":
        return Check(
            name=name, state="fail", detail=f"{detail}: a network file system can lose tasks", hint=f"export {variable}=/a/local/folder"
        )
    if free_bytes < _LOW_SPACE_BYTES:
        return Check(name=name, state="warn", detail=f"{detail}: little space is left", hint=f"df -h {there}")
    return Check(name=name, state="ok", detail=detail)


def _wrong(path: str, there: str, found: os.stat_result) -> tuple[str, str] | None:
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder", f"mv {there} {there}.aside"
    if there == path and found.st_uid != os.geteuid():
        return f"belongs to uid {found.st_uid}", f"ls -ld {path}"
    if there == path and found.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})", f"chmod 700 {path}"
    if not os.access(there, os.W_OK | os.X_OK):
        return "is not writable", f"chmod u+rwx {there}"
    return None


def _mounts() -> list[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.readlines()
    except OSError:
        return []


def _socket_path(layout: Layout) -> Check:
    length = len(os.fsencode(layout.control))
    detail = f"{length} of {SUN_PATH_BYTES} bytes"
    if length > SUN_PATH_BYTES:
        return Check(
            name="socket path", state="fail", detail=f"{layout.control}: {detail}", hint=f"export XDG_RUNTIME_DIR=/run/user/{os.getuid()}"
        )
    return Check(name="socket path", state="ok", detail=detail)


def _swarm(layout: Layout) -> list[Check]:
    flag = "" if layout.swarm == "default" else f" --swarm {layout.swarm}"
    name = f"swarm {layout.swarm}"
    try:
        hello = request(layout, "hello")
        snapshot = request(layout, "status")["snapshot"]
    except NoSwarm:
        if not os.path.exists(layout.database):
            return [Check(name=name, state="ok", detail="was never started", hint=f"tmax init{flag}")]
        if os.path.lexists(f"{layout.state}/down"):
            return [Check(name=name, state="ok", detail="is down; its queue is kept", hint=f"tmax init{flag}")]
        return [Check(name=name, state="warn", detail="has no controller running; accepted tasks are kept", hint=f"tmax init{flag}")]
    except TmaxError as error:
        return [Check(name=name, state="fail", detail=error.message, hint=f"tail {layout.log}")]
    detail = f"controller pid {hello['pid']}, engine {hello.get('engine', 'tmux')}, {len(snapshot['workers'])} workers{_repairs(hello.get('healed', 0))}"
    if hello["version"] != __version__:
        hint = f"tmax down{flag} && tmax init{flag}"
        return [
            Check(name=name, state="warn", detail=f"{detail}; it runs tmax {hello['version']}, this command is {__version__}", hint=hint)
        ]
    if snapshot["notice"]:
        return [Check(name=name, state="warn", detail=f"{detail}; {snapshot['notice']}", hint=f"tail {layout.log}")]
    return [Check(name=name, state="ok", detail=detail)]


def _repairs(times: int) -> str:
    often = "once" if times == 1 else f"{times} times"
    return f"; its runtime folder was removed and created again {often}" if times else ""


def _leftovers(layout: Layout) -> list[Check]:
    """Files that a controller has left behind when it was killed."""
    try:
        request(layout, "hello")
    except NoSwarm:
        left = [path for path in (layout.control, layout.tmux, layout.workers) if os.path.lexists(path)]
    except TmaxError:
        return []  # reported by the check of the swarm
    else:
        left = []
    if left:
        detail = f"in {layout.runtime}: {', '.join(os.path.basename(path) for path in left)} (its workers may still be running)"
        return [Check(name="leftovers", state="warn", detail=detail, hint="tmax init (takes them over) or tmax down (ends them)")]
    return [Check(name="leftovers", state="ok", detail="none")]
