"""What the kernel reports of processes: ``/proc/PID/stat`` and the peer of a socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from tmax_pipes.peer_credentials import peer_credentials
from tmax_pipes.proc_stat import start_ticks, stat_fields

RENAMED = "import sys; open('/proc/self/comm', 'w').write(') Z 1 (('); print(flush=True); sys.stdin.read()"


def test_fields_are_counted_from_the_last_parenthesis() -> None:
    with subprocess.Popen([sys.executable, "-c", RENAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        state, parent, group, *_ = stat_fields(process.pid)
        assert state in {b"R", b"S"}
        assert (int(parent), int(group)) == (os.getpid(), os.getpgid(process.pid))
        assert abs(start_ticks(process.pid) / os.sysconf("SC_CLK_TCK") + psutil.boot_time() - psutil.Process(process.pid).create_time()) < 2


def test_a_process_that_has_been_reaped_has_no_start_time() -> None:
    process = subprocess.Popen(["true"])
    assert start_ticks(process.pid) > 0
    process.wait()
    assert not Path(f"/proc/{process.pid}").exists()
    assert start_ticks(process.pid) == 0


def test_the_peer_of_a_socket_is_this_process() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_credentials(one) == (os.getpid(), os.geteuid(), os.getegid())
