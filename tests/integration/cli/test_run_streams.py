"""``run`` in other people's scripts: its streams are the command's, whatever they are."""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import socket
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.box import Box
from tests.wait import wait_until


def run_in(box: Box, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the box's swarm and return its streams as bytes."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if "input" in options:
        del options["stdin"]
    options.setdefault("cwd", box.root)
    return subprocess.run(box.command("run", *words), env=box.env, capture_output=True, timeout=60, check=False, **options)


def script(box: Box, text: str, timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script in which ``tmax`` is this box's."""
    head = f'tmax() {{ "{box.command()[0]}" -m tmax "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", head + text],
        env=box.env,
        cwd=box.root,
        capture_output=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def start(box: Box, *words: str, verb: str = "run", **options: Any) -> subprocess.Popen[bytes]:
    """Begin a ``run`` that goes on, or another verb."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("preexec_fn", hear_signals)
    return subprocess.Popen(box.command(verb, *words), env=box.env, cwd=box.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def hear_signals() -> None:
    """Whoever started the tests may ignore SIGHUP (nohup) or SIGQUIT (a job in the background), and what is ignored stays so."""
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def code_of(running: subprocess.Popen[bytes]) -> int:
    """Wait for its end and return its exit code."""
    running.communicate(timeout=30)
    return running.returncode


def all_shown(terminal: int) -> bytes:
    """Return what was written to a terminal whose other end nobody holds any more, and close it."""
    shown = b""
    try:
        while data := os.read(terminal, 4096):
            shown += data
    except OSError:
        pass  # nobody holds the other end
    os.close(terminal)
    return shown


def states(box: Box) -> list[str]:
    """The state of each task, the newest first."""
    return [row["state"] for row in box.json("ps", "--all", "--limit", "0")["tasks"]]


@pytest.fixture
def swarm(box: Box) -> Box:
    box.init(2)
    return box


# -- output ----------------------------------------------------------------------------------------


def test_stdout_and_stderr_are_two_and_a_pipe_is_no_terminal(swarm: Box) -> None:
    done = run_in(swarm, "--", "sh", "-c", "test -t 1 || echo pipe; echo wrong >&2; test -t 2 || echo too >&2; test -t 0 || echo in")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"pipe\nin\n", b"wrong\ntoo\n")
    number = swarm.json("ps", "--all")["tasks"][0]["id"]
    logged = swarm.tmax("logs", str(number)).stdout
    assert sorted(logged.split()) == ["in", "pipe", "too", "wrong"], "its log has both"


def test_a_substitution_takes_stdout_alone(swarm: Box) -> None:
    done = script(swarm, 'x=$(tmax run -- sh -c "echo value; echo noise >&2"); echo "[$x]"')
    assert (done.stdout, done.stderr) == (b"[value]\n", b"noise\n")


def test_long_output_of_both_is_told_apart_to_the_byte(swarm: Box) -> None:
    text = "i=0; while [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    done = run_in(swarm, "--", "sh", "-c", text)
    assert done.stdout == b"".join(b"out %d\n" % number for number in range(3000))
    assert done.stderr == b"".join(b"err %d\n" % number for number in range(3000))


def test_both_are_told_apart_while_it_runs_and_when_it_is_run_again(swarm: Box) -> None:
    text = "echo out $TMAX_ATTEMPT; echo err $TMAX_ATTEMPT >&2; if [ -e again ]; then exit 0; fi; touch again; while [ ! -e go ]; do sleep 0.05; done; exit 1"
    running = start(swarm, "--retries", "1", "--", "sh", "-c", text)
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline() == b"out 1\n"
    assert running.stderr.readline() == b"err 1\n"
    (swarm.root / "go").touch()
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (0, b"out 2\n", b"err 2\n"), "what the second attempt printed"


def test_no_pager_and_no_colours_in_a_pipe(swarm: Box) -> None:
    done = script(
        swarm,
        "mkdir d; tmax run -- ls --color=auto . | cat; PAGER=less tmax run -- sh -c 'test -t 1 && exec less /etc/passwd; cat /etc/passwd' | head -1",
    )
    assert b"\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith(b"root:")


@pytest.mark.parametrize("redirected", [[], [1], [2]])
def test_it_has_a_terminal_where_both_of_ours_are_one_and_no_pager_there(swarm: Box, redirected: list[int]) -> None:
    ours, theirs = pty.openpty()
    ends: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    names = {1: "stdout", 2: "stderr"}
    for fd in redirected:
        ends[names[fd]] = subprocess.PIPE
    text = "test -t 1 && echo tty || echo none; echo $PAGER"
    swarm.env["PAGER"] = "more"
    running = subprocess.Popen(swarm.command("run", "-q", "--", "sh", "-c", text), env=swarm.env, cwd=swarm.root, **ends)
    os.close(theirs)
    shown = (running.communicate(timeout=30)[0] or b"") + all_shown(ours)
    assert shown.split() == ([b"none", b"more"] if redirected else [b"tty", b"cat"])


@pytest.mark.parametrize("rows", [37, 0])
def test_its_terminal_is_as_large_as_ours(swarm: Box, rows: int) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, 91))
    for name in ("LINES", "COLUMNS"):  # tput believes these before the terminal
        swarm.env.pop(name, None)
    words = ("run", "-q", "--", "sh", "-c", "stty size; tput cols")
    running = subprocess.Popen(swarm.command(*words), env=swarm.env, cwd=swarm.root, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert running.wait(timeout=30) == 0
    shown = all_shown(ours).split()
    assert shown == [b"37", b"91", b"91"] if rows else shown[1] == shown[2] != b"91", "one that does not tell its size leaves the pane's"


def test_a_person_who_sees_nothing_is_told_why(swarm: Box) -> None:
    swarm.tmax("hold")
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        swarm.command("run", "--", "echo", "hello"), env=swarm.env, cwd=swarm.root, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown, log = b"", swarm.state / "logs" / "others.log"
    while b"task 1 waits: the queue is held" not in shown:
        if select.select([ours], [], [], 0.1)[0]:
            shown += os.read(ours, 4096)
        log.touch()  # other tasks run meanwhile, and print
        log.unlink()
    swarm.tmax("resume")
    assert running.wait(timeout=30) == 0
    assert all_shown(ours).split()[-1] == b"hello"


def test_a_reader_that_leaves_ends_the_command(swarm: Box) -> None:
    done = script(swarm, "tmax run -- yes | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout == b"y\n141\n"
    assert states(swarm) == ["cancelled"]
    assert done.stderr == b""


@pytest.mark.parametrize("where", [">/dev/full", "2>/dev/full"])
def test_output_that_cannot_be_written_ends_the_command(swarm: Box, where: str) -> None:
    text = "while :; do echo x; echo y >&2; sleep 0.05; done"
    done = script(swarm, f"tmax run -- sh -c '{text}' {where} | cat >/dev/null; echo ${{PIPESTATUS[0]}}")
    assert done.stdout != b"0\n"
    assert states(swarm) == ["cancelled"]


def test_output_that_its_log_has_no_room_for_is_told(swarm: Box) -> None:
    text = "echo up; until [ -e go ]; do sleep 0.05; done; seq 20000; echo $? >code"
    running = start(swarm, "--", "sh", "-c", text)
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    worker = next(one for one in swarm.workers() if one["task"])
    resource.prlimit(worker["pid"], resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    (swarm.root / "go").touch()
    out, err = running.communicate(timeout=30)
    assert (running.returncode, (swarm.root / "code").read_text()) == (0, "0\n"), "the command does not suffer from it"
    lost_bytes = len("up\n") + sum(len(f"{number}\n") for number in range(1, 20001)) - 8192
    note = f"note: {lost_bytes} bytes of the task's output are missing from its log, which could not be written (no space left)\n"
    assert (len(out), err.decode()) == (8192 - len("up\n"), note)
    assert swarm.tmax("logs", "1").stderr == note
    assert json.loads(swarm.tmax("logs", "1", "--json").stdout)["lost_bytes"] == lost_bytes


# -- input -----------------------------------------------------------------------------------------


def test_a_pipe_a_file_and_nothing_reach_the_command(swarm: Box) -> None:
    (swarm.root / "f").write_text("b\na\n")
    done = script(
        swarm,
        "echo hi | tmax run -- cat; tmax run -- sort < f; tmax run -- sh -c 'read x || echo end' </dev/null;"
        " tmax run -- sh -c 'read x || echo closed' <&-; tmax run -- cat <<< here; tmax run -- cat < <(echo process)",
    )
    assert done.stdout == b"hi\na\nb\nend\nclosed\nhere\nprocess\n", done.stderr


def test_every_byte_of_a_large_input_comes_through(swarm: Box) -> None:
    data = os.urandom(1 << 20) * 20
    done = run_in(swarm, "--", "sha256sum", input=data)
    import hashlib

    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_socket_is_an_input_too(swarm: Box) -> None:
    ours, theirs = socket.socketpair()
    running = start(swarm, "--", "cat", stdin=theirs.fileno())
    theirs.close()
    ours.sendall(b"by socket")
    ours.close()
    assert running.communicate(timeout=30)[0] == b"by socket"


def test_a_loop_that_reads_the_same_input_loses_no_line(swarm: Box) -> None:
    (swarm.root / "f").write_text("one\ntwo\nthree\n")
    done = script(swarm, "while read l; do tmax run -- echo $l; done < f; (tmax run -- head -c 4; cat) < f")
    assert done.stdout == b"one\ntwo\nthree\n" + b"one\n" + b"two\nthree\n"


def test_an_input_that_nobody_reads_hangs_nobody_and_its_writer_is_told(swarm: Box) -> None:
    done = script(swarm, "yes | tmax run -- true; echo ${PIPESTATUS[*]}; yes | tmax run -- head -2; echo ${PIPESTATUS[*]}")
    assert done.stdout == b"141 0\ny\ny\n141 0\n"


def test_a_command_that_stops_reading_and_goes_on_stops_its_writer(swarm: Box) -> None:
    text = "exec <&-; while [ ! -s told ]; do sleep 0.05; done; echo on"
    # Not by the function: the shell that runs it holds the pipe as well.
    done = script(swarm, f"(yes; echo $? >told) | {' '.join(swarm.command())} run -- sh -c '{text}'")
    assert done.stdout == b"on\n"
    assert (swarm.root / "told").read_text() == "141\n"


def test_it_waits_with_a_queued_command_and_is_read_when_that_begins(swarm: Box) -> None:
    swarm.tmax("hold")
    running = start(swarm, "--", "cat", stdin=subprocess.PIPE)
    wait_until(lambda: states(swarm) == ["ready"])
    swarm.kill_controller()
    swarm.tmax("resume", ok=False)
    wait_until(lambda: swarm.tmax("resume", ok=False).returncode == 0)
    out, _ = running.communicate(b"late", timeout=30)
    assert out == b"late"


def test_cancelled_before_its_start_it_is_not_touched(swarm: Box) -> None:
    swarm.tmax("hold")
    (swarm.root / "f").write_text("kept\n")
    with (swarm.root / "f").open("rb") as file:
        running = start(swarm, "--", "cat", stdin=file)
        wait_until(lambda: states(swarm) == ["ready"])
        swarm.tmax("cancel", "@")
        assert code_of(running) == 130
        assert os.read(file.fileno(), 10) == b"kept\n"


def test_run_again_a_file_is_read_from_its_beginning_and_a_pipe_is_refused(swarm: Box) -> None:
    (swarm.root / "f").write_text("skipped\nwhole\n")
    text = 'cat >>"$0"; test -e "$0.again" || { touch "$0.again"; exit 1; }'
    done = script(
        swarm,
        f"(read l; tmax run --retries 1 -- sh -c '{text}' one) < f; echo $?; echo x | tmax run --retries 1 -- sh -c '{text}' two; echo $?",
    )
    assert done.stdout == b"0\n1\n"
    assert (swarm.root / "one").read_text() == "whole\nwhole\n"
    assert (swarm.root / "two").read_text() == "x\n"
    assert b"cannot be read twice" in done.stderr


def test_a_worker_that_dies_under_it_leaves_nobody_hanging(swarm: Box) -> None:
    running = start(swarm, "--", "sh", "-c", "kill -9 $PPID; cat", stdin=subprocess.PIPE)
    assert code_of(running) != 0


def test_after_a_kill_of_run_its_command_reads_on_to_the_end(swarm: Box) -> None:
    reading, writing = os.pipe()
    running = start(swarm, "--", "sh", "-c", "cat >got; touch over", stdin=reading)
    os.close(reading)
    os.write(writing, b"before ")
    wait_until(lambda: (swarm.root / "got").exists() and (swarm.root / "got").read_bytes() == b"before ")
    running.kill()
    running.communicate()
    os.write(writing, b"after")
    os.close(writing)
    wait_until((swarm.root / "over").exists)
    assert (swarm.root / "got").read_bytes() == b"before after"


def test_killed_before_its_command_began_the_command_finds_an_end(swarm: Box) -> None:
    swarm.tmax("hold")
    running = start(swarm, "--", "sh", "-c", "cat >got; touch over", stdin=subprocess.PIPE)
    wait_until(lambda: states(swarm) == ["ready"])
    running.kill()
    running.communicate()
    swarm.tmax("resume")
    wait_until((swarm.root / "over").exists)
    assert (swarm.root / "got").read_bytes() == b""


def test_many_at_once_each_read_their_own(swarm: Box) -> None:
    running = [start(swarm, "--", "cat", stdin=subprocess.PIPE) for _ in range(8)]
    for number, one in enumerate(running):
        assert one.stdin is not None
        one.stdin.write(b"%d" % number)
        one.stdin.close()
        one.stdin = None
    outs = [one.communicate(timeout=60)[0] for one in running]
    assert outs == [b"%d" % number for number in range(8)]


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_cancels_the_command_shows_its_last_words_and_is_the_exit_code(swarm: Box, number: signal.Signals) -> None:
    running = start(swarm, "--grace", "20", "--", "sh", "-c", "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (128 + number, b"asked\n"), err
    assert states(swarm)[0] in {"cancelled", "failed"}


def test_a_second_signal_leaves_at_once(swarm: Box) -> None:
    running = start(swarm, "--grace", "20", "--", "sh", "-c", "trap 'echo asked' TERM; echo up; while [ ! -e go ]; do sleep 0.05; done")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    running.send_signal(signal.SIGTERM)
    wait_until(lambda: b"asked" in running.stdout.readline())  # type: ignore[union-attr]
    running.send_signal(signal.SIGHUP)
    assert code_of(running) == 129
    (swarm.root / "go").touch()


def test_timeout_leaves_no_task_running(swarm: Box) -> None:
    done = script(swarm, f"timeout 2 {' '.join(swarm.command())} run -- sleep 61; echo $?")
    assert done.stdout == b"124\n"
    wait_until(lambda: states(swarm) == ["cancelled"], timeout_s=5)


def test_a_signal_before_the_start_takes_it_out_of_the_queue(swarm: Box) -> None:
    swarm.tmax("hold")
    running = start(swarm, "--", "touch", "ran")
    wait_until(lambda: states(swarm) == ["ready"])
    running.send_signal(signal.SIGTERM)
    assert code_of(running) == 143
    assert states(swarm) == ["cancelled"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_cancels_a_kernel_as_it_does_a_command(swarm: Box, number: signal.Signals) -> None:
    swarm.tmax("hold")
    running = start(swarm, "reduce", "--n", "10", verb="kernel")
    wait_until(lambda: states(swarm) == ["ready"])
    running.send_signal(number)
    assert code_of(running) == 128 + number
    assert states(swarm) == ["cancelled"]


def test_what_is_ignored_stays_ignored(swarm: Box) -> None:
    running = start(swarm, "--", "sh", "-c", "echo up; sleep 1; echo over", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    running.send_signal(signal.SIGHUP)
    assert running.communicate(timeout=30)[0] == b"over\n"
    assert running.returncode == 0


# -- surroundings ----------------------------------------------------------------------------------


def test_umask_limits_folder_and_environment_are_those_of_the_shell_that_asks(swarm: Box) -> None:
    text = "umask; ulimit -S -n; ulimit -S -v; ulimit -H -n; pwd; echo $MINE"
    done = script(
        swarm,
        f"umask 027; ulimit -S -n 200; ulimit -H -n 300; ulimit -v 4000000; mkdir sub; cd sub; export MINE=x; tmax run -- sh -c '{text}'",
    )
    assert done.stdout.decode().split() == ["0027", "200", "4000000", "300", str(swarm.root / "sub"), "x"]
    number = script(swarm, "umask 002; tmax submit -q -- sh -c 'umask; touch file'").stdout.decode().strip()
    swarm.tmax("wait", number)
    assert swarm.tmax("logs", number).stdout == "0002\n"
    assert (swarm.root / "file").stat().st_mode & 0o777 == 0o664


def test_keep_background_by_flag_and_by_setting(box: Box) -> None:
    box.init(1)
    leave = "sleep 300 & echo $!"
    ended = int(box.tmax("run", "--", "sh", "-c", leave).stdout)
    kept = int(box.tmax("run", "--keep-background", "--", "sh", "-c", leave).stdout)
    assert not Path(f"/proc/{ended}").exists()
    box.tmax("down", "--now")
    assert Path(f"/proc/{kept}").exists()
    os.kill(kept, signal.SIGKILL)
    box.env["TMAX_TASKS__KEEP_BACKGROUND"] = "true"
    box.init(1)
    kept = int(box.tmax("run", "--", "sh", "-c", leave).stdout)
    began = time.monotonic()
    box.tmax("down", "--now")
    assert time.monotonic() - began < 30
    assert Path(f"/proc/{kept}").exists()
    os.kill(kept, signal.SIGKILL)
