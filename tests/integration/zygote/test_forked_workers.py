"""A forked worker is like one that was started by exec: its terminal, its environment, its end; and it differs from its siblings."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine_rig import python_run, shell_run
from tests.integration.zygote.zygote_rig import ZygoteRig, cpu_ticks, files_of, settings_for, stat_fields, uss_bytes
from tmax.engines.life_mark import mark_of
from tmax.engines.process_table import scan
from tmax_pipes.messages import Stop

MakeRig = Callable[..., ZygoteRig]

ABOUT = """(lambda os, sys, signal, gc: {
    "cwd": os.getcwd(), "path": sys.path, "argv": [sys.argv[0], *sys.argv[3:]], "safe": sys.flags.safe_path,
    "env": {k: v for k, v in os.environ.items() if k not in ("TMAX_LIFE", "TMAX_WORKER", "_")},
    "main": [sys.modules["__main__"].__spec__.name, sys.modules["__main__"].__name__ != "", os.path.basename(sys.modules["__main__"].__file__)],
    "python": [sys.executable, sys.prefix], "encodings": [sys.stdin.encoding, sys.stdout.encoding, sys.stderr.errors],
    "signals": {n.name: str(signal.getsignal(n)) for n in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "umask": [os.umask(0o77), os.umask(0o77)][0],
    "gc": [gc.isenabled(), gc.get_threshold()], "root_log": len(sys.modules["logging"].root.handlers) if "logging" in sys.modules else 0,
    "ids": [os.getpid() == os.getsid(0), os.getpid() == os.getpgid(0), os.tcgetpgrp(0) == os.getpid()],
})(__import__("os"), __import__("sys"), __import__("signal"), __import__("gc"))"""


def test_eight_workers_are_ready_and_each_is_known_by_its_mark(rig: ZygoteRig) -> None:
    lives = range(1, 9)
    rig.start(*lives)
    zygote = rig.zygote()
    assert rig.spawner.trouble == ""
    assert len({rig.pid(life) for life in lives}) == 8
    roots = {one.mark: one.pid for one in scan() if one.mark}
    for life in lives:
        pid = rig.pid(life)
        assert rig.greeted(life).hello.pid == pid
        assert int(stat_fields(pid)[1]) == zygote
        # The mark alone is how leftovers are found; the stub must not have it, or it would be killed before it can tell.
        assert roots[mark_of(rig.layout, life)] == pid
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert words[1:6] == [b"-P", b"-m", b"tmax_workers", b"--life", str(life).encode()]
        assert Path(f"/proc/{pid}/comm").read_text().strip() == f"tmax-life-{life}"
        assert rig.compute(life, task=life).result == b"3"
    assert (os.stat(rig.layout.zygote).st_mode & 0o777) == 0o600


def test_panes_ask_while_the_zygote_still_imports(make_rig: MakeRig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    (tmp_path / "slow_module.py").write_text(f"open({str(go)!r}).read()\n")
    rig = make_rig(settings_for(preload=["slow_module"]), {"PYTHONPATH": str(tmp_path)})
    rig.engine.start([(1, "w1"), (2, "w2")])
    rig.until(lambda: {"w1", "w2"} <= rig.sessions())
    rig.run_for(0.2)
    assert rig.events == []
    with go.open("w"):
        pass
    for life in (1, 2):
        assert rig.greeted(life).hello.missing == ()
        assert rig.value(life, "'slow_module' in __import__('sys').modules")


def test_it_finds_what_a_worker_by_exec_finds(make_rig: MakeRig) -> None:
    told = []
    for spawner in ("exec", "zygote"):
        rig = make_rig(settings_for(spawner))
        rig.start(1)
        about = rig.value(1, ABOUT)
        text = str(about).replace(str(rig.root), "ROOT")
        told.append(eval(text))
    by_exec, forked = told
    assert forked == by_exec


def test_its_terminal_is_the_pane(rig: ZygoteRig) -> None:
    rig.start(1)
    pid = rig.pid(1)
    _, _, group, session, terminal, foreground = stat_fields(pid)[:6]
    assert (int(group), int(session), int(foreground)) == (pid, pid, pid)
    assert int(terminal) == os.stat(rig.pane("#{pane_tty}", "w1")).st_rdev
    assert rig.pane("#{pane_current_command}", "w1").startswith("python")
    assert rig.value(1, "[__import__('os').isatty(0), __import__('os').close(__import__('os').open('/dev/tty', 2))]") == [True, None]
    rig.tmux("send-keys", "-t", "=w1:", "C-c")
    rig.until(lambda: "Ctrl-C: nothing runs here" in rig.screen("w1"))
    rig.tmux("resize-window", "-t", "=w1:", "-x", "93", "-y", "31")
    rig.until(lambda: rig.value(1, "list(__import__('os').get_terminal_size(0))") == [93, 31])
    # Only the foreground group of a controlling terminal is told of a new size.
    resized = rig.root / "resized"
    rig.engine.send(1, [shell_run(1, f"trap 'stty size >{resized}; exit 0' WINCH; echo ready; while :; do sleep 0.02; done")])
    rig.until(lambda: "ready" in rig.screen("w1").replace("echo ready", ""))
    rig.tmux("resize-window", "-t", "=w1:", "-x", "71", "-y", "17")
    rig.until(lambda: resized.exists() and resized.read_text() == "17 71\n")


def test_its_end_shows_in_the_pane_and_in_the_report(rig: ZygoteRig) -> None:
    rig.start(1, 2, 3, 4)
    panes = {life: rig.tmux_sessions.pane_of(life).pane_id for life in (1, 2, 3)}  # type: ignore[union-attr]
    os.kill(rig.pid(1), signal.SIGSEGV)
    rig.engine.send(2, [Stop(why="drain")])
    os.kill(rig.pid(3), signal.SIGKILL)
    ends = {life: rig.ended(life) for life in (1, 2, 3)}
    assert [(ends[life].signal, ends[life].exit_code) for life in ends] == [(signal.SIGSEGV, None), (None, 0), (signal.SIGKILL, None)]
    assert all(end.peak_rss_bytes > 1_000_000 for end in ends.values())
    shown = "#{pane_dead} #{pane_dead_status}/#{pane_dead_signal}"
    wanted = {1: "1 /11", 2: "1 0/", 3: "1 /9"}
    for life, pane in panes.items():
        rig.until(lambda life=life, pane=pane: rig.tmux("display-message", "-p", "-t", pane, shown) == wanted[life], 5.0)
    assert rig.compute(4, task=1).result == b"3"


def test_an_exit_status_of_its_own(rig: ZygoteRig) -> None:
    rig.start(1)
    pane = rig.tmux_sessions.pane_of(1)
    assert pane is not None
    rig.engine.send(1, [python_run(1, function="os:_exit", args=[37])])
    assert (rig.ended(1).exit_code, rig.ended(1).signal) == (37, None)
    rig.until(lambda: rig.tmux("display-message", "-p", "-t", pane.pane_id, "#{pane_dead_status}") == "37", 5.0)


def test_nothing_of_the_zygote_is_open_in_it(rig: ZygoteRig) -> None:
    rig.start(1, 2)
    shared = files_of(rig.zygote()) & files_of(rig.pid(1))
    assert {one for one in shared if one.startswith(("socket:", "pipe:")) or one == rig.layout.log} == set()
    assert {one for one in files_of(rig.pid(1)) & files_of(rig.pid(2)) if one.startswith(("socket:", "pipe:"))} == set()


def test_siblings_draw_different_numbers(make_rig: MakeRig) -> None:
    rig = make_rig(settings_for(preload=["numpy", "numpy.random"]))
    rig.start(1, 2)
    for draw in ("__import__('random').random()", "__import__('numpy').random.rand()"):
        assert rig.value(1, draw) != rig.value(2, draw)


def test_a_module_that_is_missing_is_told_to_every_worker(make_rig: MakeRig) -> None:
    rig = make_rig(settings_for(preload=["json", "no_such_module"]))
    rig.start(1, 2)
    rig.zygote()
    for life in (1, 2):
        hello = rig.greeted(life).hello
        assert [missing.partition(":")[0] for missing in hello.missing] == ["no_such_module"]
    assert "not imported: no_such_module" in Path(rig.layout.log).read_text()


def test_an_idle_zygote_uses_no_processor(rig: ZygoteRig) -> None:
    rig.start(1)
    zygote = rig.zygote()
    rig.run_for(0.1)
    before = cpu_ticks(zygote), stat_switches(zygote)
    rig.run_for(0.7)
    assert (cpu_ticks(zygote), stat_switches(zygote)) == before


def stat_switches(pid: int) -> int:
    """Return how often a process went to sleep: one that polls does so all the time."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


@pytest.mark.torch
@pytest.mark.slow
def test_torch_works_with_its_share_of_threads_and_a_tenth_of_the_memory(make_rig: MakeRig) -> None:
    pytest.importorskip("torch")
    plain = make_rig(settings_for("exec", ["numpy", "torch"]))
    plain.start(1)
    plain_bytes = uss_bytes(plain.pid(1))
    plain.close = lambda: None  # type: ignore[method-assign]  # closed here, so that it does not compete for the cores
    ZygoteRig.close(plain)

    rig = make_rig(settings_for("zygote", ["numpy", "torch"], threads=2))
    rig.start(1, 2)
    assert rig.spawner.trouble == ""
    forked_bytes = uss_bytes(rig.pid(1))
    print(f"private memory of an idle worker with torch: {plain_bytes / 2**20:.1f} MiB by exec, {forked_bytes / 2**20:.1f} MiB forked")
    assert forked_bytes * 10 <= plain_bytes
    product = "(lambda t: (t.ones(400, 400) @ t.ones(400, 400) * t.ones(400, 400)).sum().item())(__import__('torch'))"
    assert rig.value(1, product) == 400.0**3
    # A parallel region of OpenMP: with a second thread in the zygote it would hang here for ever.
    assert rig.value(1, "(lambda t: (t.ones(3_000_000) * 2).sum().item())(__import__('torch'))") == 6e6
    assert rig.value(1, "(lambda a: float((a @ a)[0, 0]))(__import__('numpy').ones((600, 600)))") == 600.0
    assert rig.value(1, "__import__('torch').get_num_threads()") == 2
    pools = rig.value(1, "[p['num_threads'] for p in __import__('threadpoolctl').threadpool_info()]")
    assert pools and set(pools) == {2}
    draw = "__import__('torch').rand(1).item()"
    assert rig.value(1, draw) != rig.value(2, draw)
