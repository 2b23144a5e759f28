"""What a command finds around it: folder, environment, umask, limits; inline, shared, and where they differ from its worker's."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.integration.workers.harness import Bench, call, run, sh, shell
from tmax_pipes import blobs
from tmax_pipes.jobs import SubmitterEnvironment, encode_submitter_environment
from tmax_pipes.messages import TAIL_BYTES

PATH = os.environb[b"PATH"]
OWN = {number: resource.getrlimit(number) for number in range(16)}


def lines(bench: Bench, task: int) -> list[str]:
    """What a task printed, which ended well."""
    return bench.done(task).report.tail.decode().splitlines()


def test_umask_is_the_submitters_and_never_the_workers(worker: Bench):
    worker.say(run(1, sh("umask", umask=0o027)), run(2, sh("umask")), run(3, sh("umask", umask=0)), run(4, call(os.umask, 0o22)))
    assert [lines(worker, task) for task in (1, 2, 3)] == [["0027"], ["0022"], ["0000"]]
    worker.done(4)


def test_a_file_of_a_command_has_the_rights_it_would_have(worker: Bench, folder: Path):
    worker.say(run(1, sh("echo x >file", cwd=os.fsencode(folder), umask=0o002)))
    worker.done(1)
    assert (folder / "file").stat().st_mode & 0o777 == 0o664


def test_soft_limits_are_the_submitters(worker: Bench):
    hard = OWN[resource.RLIMIT_NOFILE][1]
    limits = {resource.RLIMIT_NOFILE: (123, hard), resource.RLIMIT_CORE: (0, OWN[resource.RLIMIT_CORE][1])}
    worker.say(run(1, sh("ulimit -S -n; ulimit -S -c", limits=limits)), run(2, sh("ulimit -S -n")))
    assert lines(worker, 1) == ["123", "0"]
    assert lines(worker, 2) == [str(OWN[resource.RLIMIT_NOFILE][0])], "and no other task's"


def test_limits_that_would_end_the_worker_itself_are_only_the_commands(worker: Bench):
    limits = {
        resource.RLIMIT_CPU: (1, 2),
        resource.RLIMIT_AS: (50 << 20, OWN[resource.RLIMIT_AS][1]),
        resource.RLIMIT_NOFILE: (99, 100),
    }
    worker.say(run(1, sh("ulimit -S -t; ulimit -H -t; ulimit -S -v; ulimit -S -n; ulimit -H -n; ls -1 /proc/self/fd", limits=limits)))
    assert lines(worker, 1) == ["1", "2", str(50 << 10), "99", "100", "0", "1", "2", "3"]
    worker.say(run(2, shell("sh", "-c", "while :; do :; done", limits=limits)))
    assert worker.failed(2).failure.signal in {24, 9}
    worker.say(run(3, sh("ulimit -H -n")), run(4, call(sum, range(10))))
    assert lines(worker, 3) == [str(OWN[resource.RLIMIT_NOFILE][1])]
    worker.done(4)


def test_behind_limits_a_command_keeps_its_words_its_terminal_and_its_failures(worker: Bench):
    limits = {resource.RLIMIT_CPU: (1000, 1000)}
    worker.say(
        run(1, shell("sh", "-c", 'printf "%s|" "$0" "$@"; test -t 0 && echo tty', "a b", "", "c'd\n", limits=limits)),
        run(2, shell("no-such-command", limits=limits)),
        run(3, shell("/", limits=limits)),
        run(4, sh("exit 7", limits=limits, split=True)),
        run(5, sh("kill -9 $$", limits=limits)),
    )
    assert worker.done(1).report.tail == b"a b||c'd\n|tty\n"
    assert worker.failed(2).failure.exit_code == 127
    assert worker.failed(3).failure.exit_code == 126
    assert worker.failed(4).failure.exit_code == 7
    assert worker.failed(5).failure.signal == 9


def test_a_command_that_cannot_have_its_limits_is_not_started(worker: Bench):
    worker.say(run(1, shell("sleep", "60", limits={resource.RLIMIT_CPU: (-5, 1000)})))
    assert worker.failed(1).failure.kind == "refused"
    assert not any(file.read_text() for file in Path(f"/proc/{worker.pid}/task").glob("*/children"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may raise a hard limit")
def test_a_limit_above_the_workers_hard_limit_is_cut_to_it(worker: Bench):
    hard = OWN[resource.RLIMIT_NOFILE][1]
    worker.say(run(1, sh("ulimit -S -n; ulimit -H -n", limits={resource.RLIMIT_NOFILE: (hard + 5, hard + 9), 99: (1, 1)})))
    assert lines(worker, 1) == [str(hard), str(hard)]


@pytest.mark.parametrize("as_blob", [False, True])
def test_shared_surroundings_hold_and_the_jobs_own_go_before_them(worker: Bench, folder: Path, as_blob: bool):
    hard = OWN[resource.RLIMIT_NOFILE][1]
    shared = encode_submitter_environment(
        SubmitterEnvironment(
            cwd=os.fsencode(folder), env={b"PATH": PATH, b"MINE": b"shared"}, umask=0o077, limits={resource.RLIMIT_NOFILE: (77, hard)}
        )
    )
    body = blobs.put(worker.state / "blobs", shared) if as_blob else shared
    text = "pwd; echo $MINE; umask; ulimit -S -n"
    worker.say(run(1, sh(text, submitter_environment=body, env={})))
    assert lines(worker, 1) == [str(folder), "shared", "0077", "77"]
    own = {"env": {b"PATH": PATH, b"MINE": b"own"}, "cwd": b"/", "umask": 0o027, "limits": {resource.RLIMIT_NOFILE: (66, hard)}}
    worker.say(run(2, sh(text, submitter_environment=body, **own)))
    assert lines(worker, 2) == ["/", "own", "0027", "66"]


def test_shared_surroundings_that_are_gone_refuse_the_task_and_not_the_next(worker: Bench):
    body = blobs.put(worker.state / "blobs", encode_submitter_environment(SubmitterEnvironment(umask=0o011)))
    (worker.state / "blobs" / body.digest).unlink()
    worker.say(run(1, sh("umask", submitter_environment=body)), run(2, sh("umask", submitter_environment=b"\xff")), run(3, sh("umask")))
    for task in (1, 2):
        failure = worker.failed(task).failure
        assert (failure.kind, bool(failure.hint)) == ("refused", True)
    assert lines(worker, 3) == ["0022"]


def test_no_pager_waits_where_nobody_looks(worker: Bench):
    env = {b"PATH": PATH, b"PAGER": b"less", b"GH_PAGER": b"less -F"}
    text = "echo $PAGER $GIT_PAGER $MANPAGER $SYSTEMD_PAGER $GH_PAGER"
    worker.say(run(1, sh(text, env=env)), run(2, sh(text, env=env, split=True)))
    assert lines(worker, 1) == ["cat cat cat cat cat"]
    assert lines(worker, 2) == ["less less -F"], "without a terminal a pager does not wait"


def test_why_it_cannot_be_started_is_true(worker: Bench, folder: Path):
    script, data, busy = folder / "script", folder / "data", folder / "busy"
    script.write_text("#!/no/such/interpreter -x\n")
    data.write_bytes(b"\0\1\2")
    busy.write_bytes(Path("/bin/true").read_bytes())
    for path in (script, data, busy):
        path.chmod(0o700)
    with busy.open("ab"):
        worker.say(
            run(1, shell(str(script))),
            run(2, shell("echo", "x" * 200_000)),
            run(4, shell(str(folder))),
            run(5, shell(str(data))),
            run(6, shell(str(busy))),
            run(7, shell("/etc/passwd")),
            run(8, shell("make && make test")),
            run(9, shell("/etc/passwd/x")),
        )
        failures = {task: worker.failed(task).failure for task in range(1, 10) if task != 3}
    assert "its interpreter /no/such/interpreter is not there" in failures[1].message
    assert "200000 bytes" in failures[2].message and "131071" in failures[2].message
    assert "chmod" not in failures[2].hint
    assert "is a directory" in failures[4].message
    assert "not a program for this machine" in failures[5].message
    assert "open for writing" in failures[6].message
    assert "chmod +x /etc/passwd" in failures[7].hint
    assert "tmax run -- sh -c 'make && make test'" in failures[8].hint
    codes = {task: failure.exit_code for task, failure in failures.items()}
    assert codes == {1: 127, 2: 126, 4: 126, 5: 126, 6: 126, 7: 126, 8: 127, 9: 127}
    assert all(len(failure.message) < TAIL_BYTES for failure in failures.values())
