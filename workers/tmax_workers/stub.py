"""The first process of a worker's pane: passes the pane to a worker forked by the zygote, and ends as that worker ends.

Run as ``python -I -S stub.py SOCKET NAME=VALUE... -- WORKER COMMAND...``; the worker gets this environment
without tmux's variables and with NAME=VALUE.

::

    connect --> give up the terminal --> command, environment, descriptors 0 1 2 and the folder --> the zygote forks
        forked PID   wait for "exit N" or "signal N", end in the same way      connection lost: wait for PID, exit status unknown
        refused      certainly nothing was forked: exec the worker             no answer: the same
        gone         this life is not wanted any more: exit

Descriptor 2 stays open to the end: otherwise tmux would see the terminal close before this exit status, and lose the status.
The stub imports built-in modules only, because each worker starts one: 10 ms instead of 16.
"""

import _socket
import fcntl
import posix
import sys
from _signal import SIG_DFL, SIG_IGN, SIGHUP, signal  # type: ignore[import-not-found]  # the module ``signal`` builds enums first
from posix import _exit

_TIOCNOTTY, _TIOCSCTTY = 0x5422, 0x540E
_O_PATH = 0o10000000
LOST = 69
"""Exit status when that of the worker is unknown (``EX_UNAVAILABLE``)."""
_GONE = 75


def main(args: list[str]) -> None:
    """Start the worker in this pane; does not return."""
    where, cut = args[0], args.index("--")
    command = [_bytes(verb) for verb in args[cut + 1 :]]
    env = {name: value for name, value in posix.environ.items() if name not in (b"TMUX", b"TMUX_PANE")}
    env.update((name, value) for name, _, value in (_bytes(verb).partition(b"=") for verb in args[1:cut]))
    zygote = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        zygote.connect(where)
    except OSError as error:
        _exec(command, env, f"no process forks workers here ({error.strerror})")
    _give_terminal_up()
    try:
        _send_request(zygote, command, env)
    except OSError:
        pass  # it closed the connection; its answer is read below
    _follow(zygote, command, env)


def _send_request(zygote: _socket.socket, command: list[bytes], env: dict[bytes, bytes]) -> None:
    parts = [b"%d" % len(command), *command, *(name + b"=" + value for name, value in env.items())]
    body = b"\0".join(parts)
    data = b"S" + len(body).to_bytes(4, "big") + body
    fds = [0, 1, 2, posix.open(b".", _O_PATH)]
    packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    sent = zygote.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
    zygote.sendall(data[sent:])
    posix.close(fds[3])


def _follow(zygote: _socket.socket, command: list[bytes], env: dict[bytes, bytes]) -> None:
    """Follow the zygote's answers, line by line."""
    greeted, pid, watch, rest = False, 0, -1, b""
    while True:
        line, newline, after = rest.partition(b"\n")
        if not newline:
            data = _receive(zygote)
            if not data:
                break
            rest += data
            continue
        rest = after
        verb, _, detail = line.decode("utf-8", "replace").partition(" ")
        if verb == "hello":
            greeted = True
        elif verb == "forked":
            pid = int(detail)
            watch = _watch(pid)
            posix.close(0)
            posix.close(1)
        elif verb == "refused":
            _exec(command, env, detail)
        else:
            _end(verb, detail)
    if pid:
        _wait_for(watch)
    elif not greeted:
        _exec(command, env, "the process that forks workers has ended")
    _end("lost", "the process that forks workers has ended; the exit status of the worker is unknown")


def _receive(zygote: _socket.socket) -> bytes:
    try:
        return zygote.recv(4096)
    except OSError:
        return b""  # reset: it ended before it had read the request


def _watch(pid: int) -> int:
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return -1  # it has ended already; its status follows


def _wait_for(watch: int) -> None:
    """Wait until the process of this pidfd has ended, so that its pane stays open."""
    if watch >= 0:
        import select

        poll = select.poll()
        poll.register(watch, select.POLLIN)
        poll.poll()


def _give_terminal_up() -> None:
    """Give up the controlling terminal, so that the worker can take it; this sends SIGHUP to this process."""
    signal(SIGHUP, SIG_IGN)
    try:
        fcntl.ioctl(0, _TIOCNOTTY)
    except OSError:
        pass  # there is none: not in a pane


def _exec(command: list[bytes], env: dict[bytes, bytes], why: str) -> None:
    """Replace this process by the worker.  Only when certainly no other process is this worker."""
    _print(f"{why}; this worker starts without it")
    try:
        fcntl.ioctl(0, _TIOCSCTTY, 0)
    except OSError:
        pass  # it was not given up yet, or there is none
    signal(SIGHUP, SIG_DFL)
    try:
        posix.execve(command[0], command, env)
    except OSError as error:
        _end("lost", f"cannot start {command[0].decode('utf-8', 'replace')}: {error.strerror}")


def _end(verb: str, detail: str) -> None:
    """Exit as the worker did."""
    if verb == "exit":
        _exit(int(detail))
    if verb == "signal":
        _die_by(int(detail))
    _print(detail)
    _exit(_GONE if verb == "gone" else LOST)


def _die_by(number: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker's own core is the one of interest
    try:
        signal(number, SIG_DFL)
    except (OSError, ValueError):
        pass  # KILL and STOP have no other meaning anyway
    posix.kill(posix.getpid(), number)
    _exit(128 + number)


def _print(text: str) -> None:
    try:
        posix.write(2, f"tmax: {text}\r\n".encode())
    except OSError:
        pass  # the pane is gone


def _bytes(verb: str) -> bytes:
    return verb.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


if __name__ == "__main__":
    main(sys.argv[1:])
