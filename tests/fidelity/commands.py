"""Lines of shell, run as they are and with ``tmax run --`` before the command; nothing of it is a terminal."""

from __future__ import annotations

import shlex
import sys

from tests.fidelity.table import Command


def same(name: str, line: str, **given: object) -> Command:
    """A row that comes out the same."""
    return Command(name=name, line=line, **given)  # type: ignore[arg-type]


def other(name: str, differs: str, line: str, direct: tuple[bytes, bytes, int], ours: tuple[bytes, bytes, int], **given: object) -> Command:
    """A row that is documented to come out otherwise."""
    return Command(name=name, line=line, differs=differs, direct=direct, ours=ours, **given)  # type: ignore[arg-type]


PY = shlex.quote(sys.executable)
REPOSITORY = "git init -q . && git -c user.name=n -c user.email=e@x commit -q --allow-empty -m one && "

COMMANDS = [
    # -- ends ------------------------------------------------------------------------------------------
    *(same(f"exit {code}", f"{{run}} sh -c 'exit {code}'") for code in (0, 1, 2, 3, 4, 74, 75, 124, 125, 126, 127, 128, 130, 143, 255)),
    same("ended by a signal of its own", "{ {run} sh -c 'kill -9 $$'; } 2>/dev/null; echo $?"),
    same("ended by TERM of its own", "{ {run} sh -c 'kill -TERM $$'; } 2>/dev/null; echo $?"),
    same("a shell whose child was killed", "{run} sh -c 'sh -c \"kill -9 \\$\\$\"; echo $?'"),
    same("true and false", "{run} true && echo yes; {run} false || echo no"),
    same("in a condition", "if {run} test -e there; then echo there; else echo gone; fi", files={"there": b""}),
    other(
        "not found",
        "C1",
        "{run} no-such-command-here; echo $?",
        (b"127\n", b"/bin/bash: line 1: no-such-command-here: command not found\n", 0),
        (b"127\n", b"error: task N failed: command not found: no-such-command-here\n", 0),
    ),
    other(
        "not executable",
        "C1",
        "{run} ./data; echo $?",
        (b"126\n", b"/bin/bash: line 1: ./data: Permission denied\n", 0),
        (b"126\n", b"error: task N failed: cannot run ./data: Permission denied\n", 0),
        files={"data": b"x"},
    ),
    # -- surroundings ----------------------------------------------------------------------------------
    same("umask", "umask 027; {run} sh -c 'umask; : > made; mkdir folder'"),
    same("limit of descriptors", "ulimit -n 77; {run} sh -c 'ulimit -n'"),
    same("limit of core files", "ulimit -c 0; {run} sh -c 'ulimit -c'"),
    same("limit of file sizes", "ulimit -f 2000; {run} sh -c 'ulimit -f'"),
    same("soft and hard limit", "ulimit -S -n 70; ulimit -H -n 90; {run} sh -c 'ulimit -S -n; ulimit -H -n'"),
    same("working directory", "mkdir sub; cd sub; {run} pwd; {run} sh -c 'echo x > made'"),
    same("a folder with an odd name", "mkdir $'a b\\nc'; cd $'a b\\nc'; {run} sh -c 'echo x > made; basename \"$PWD\"'"),
    same("variables", "A='x  y' B= {run} sh -c 'echo \"$A|$B|${C-unset}\"'"),
    same("a variable removed", "export A=1; unset A; {run} sh -c 'echo ${A-unset}'"),
    same("locale and time zone", "export LC_ALL=C.UTF-8 TZ=Asia/Tokyo; {run} date -d @0 +%H%Z; {run} locale | grep LC_ALL"),
    same("no locale, as under cron", "unset LANG LC_ALL LC_CTYPE; {run} sh -c 'printf ä | wc -m; echo ${LC_CTYPE-none}'"),
    same("the locale of C", "unset LANG LC_ALL; export LC_CTYPE=C; {run} sh -c 'printf ä | wc -m; echo ${LC_CTYPE-none}'"),
    same("PATH", "mkdir bin; printf '#!/bin/sh\\necho mine\\n' > bin/mine; chmod +x bin/mine; PATH=$PWD/bin:$PATH {run} mine"),
    same("niceness", "{run} nice"),
    other("variables of its own", "C2", "{run} sh -c 'env | grep -c ^TMAX_TASK_ID='; true", (b"0\n", b"", 0), (b"1\n", b"", 0)),
    other(
        "the parent",
        "C3",
        "{run} sh -c 'test $(ps -o ppid= -p $$) = '$$ && echo child || echo stranger",
        (b"child\n", b"", 0),
        (b"stranger\n", b"", 0),
    ),
    # -- input -----------------------------------------------------------------------------------------
    same("stdin: a pipe", "printf 'a\\nb' | {run} cat"),
    same("stdin: a file", "{run} cat < data", files={"data": b"one\ntwo\n"}),
    same("stdin: /dev/null", "{run} cat < /dev/null; echo end"),
    same("stdin: closed", "{run} cat <&- 2>/dev/null; echo end"),
    same("stdin: nothing given", "{run} cat; echo end"),
    same("stdin: a here-document", "{run} sort <<END\nb\na\nEND"),
    same("stdin: binary", "head -c 300000 /dev/zero | tr '\\0' '\\377' | {run} md5sum"),
    same("stdin: what is left stays", "{ {run} head -c 2; cat; } < data", files={"data": b"abcdef"}),
    same("stdin in a loop", 'while read -r line; do {run} echo "got $line" < /dev/null; done < data', files={"data": b"1\n2\n"}),
    same("input() of Python", f"printf 'name\\n' | {{run}} {PY} -c 'print(\"hello\", input())'"),
    same("read at the end of input", "{run} sh -c 'read x; echo $?' < /dev/null"),
    same("a pipeline of three", "printf '3\\n1\\n2\\n' | {run} sort | {run} head -2 | {run} tr '\\n' ,"),
    # -- output ----------------------------------------------------------------------------------------
    same("no newline at the end", "{run} printf abc"),
    same("binary output", "{run} sh -c 'printf \"a\\0b\\377\\r\\n\\033[0m\"'"),
    same("large output", "{run} sh -c 'seq 300000' | md5sum"),
    same("stderr apart", "{run} sh -c 'echo out; echo err >&2'"),
    same("stderr alone", "{run} sh -c 'echo err >&2' 2>&1 >/dev/null"),
    same("stdout to a file", "{run} echo x > made"),
    same("stderr to a file", "{run} sh -c 'echo e >&2' 2> made"),
    same("output of a reader that stops", "{run} yes | head -1"),
    same("exit code under pipefail", "set -o pipefail; {run} sh -c 'echo x; exit 3' | cat; echo $?"),
    same("command substitution", 'x=$({run} echo value); echo "<$x>"'),
    same("ls --color=auto", "mkdir d; {run} ls --color=auto"),
    same("git log", REPOSITORY + "{run} git log --format=%s | cat"),
    same("git status", REPOSITORY + "{run} git status --short --branch"),
    same("grep --color=auto", "echo abc | {run} grep --color=auto b"),
    same("no terminal", "{run} sh -c 'for n in 0 1 2; do test -t $n && echo tty $n; done; echo none'"),
    same("columns", f"{{run}} {PY} -c 'import os, shutil; print(shutil.get_terminal_size((70, 9)))'"),
    same("progress with carriage returns", "{run} printf '1\\r2\\r3\\n'"),
    # -- words -----------------------------------------------------------------------------------------
    same("words with newlines, unicode, quotes, nothing", "{run} printf '<%s>' $'a\\nb' 'ä 😀' \"it's\" '' '*' '$HOME' '-n'"),
    same("words that are no text", "{run} printf '<%s>' $'\\xff\\xfe' | od -An -tx1"),
    same("flags of the command", "{run} echo --help -q --json --name x -- y"),
    same("an argument of 100 KB", "{run} printf %s \"$(head -c 100000 /dev/zero | tr '\\0' x)\" | wc -c"),
    same("300 KB of arguments", "{run} echo $(seq 50000) | wc -c"),
    same("a script with #!", "chmod +x tool; {run} ./tool a b", files={"tool": b"#!/bin/sh\necho tool $*\n"}),
    same("an absolute path", "{run} /bin/echo x"),
    # -- files and processes ---------------------------------------------------------------------------
    same("a hundred files", "{run} sh -c 'for n in $(seq 100); do echo $n > f$n; done'"),
    same("modes of files", "{run} sh -c 'echo > plain; mkdir folder; ln -s plain link; chmod 750 plain'"),
    same("a background child that is waited for", "{run} sh -c 'echo slow > made & wait; cat made'"),
    other(
        "a background child that is left",
        "C4",
        "{run} sh -c 'nohup sleep 30 >/dev/null 2>&1 & echo $! > pid'; kill $(cat pid) 2>/dev/null && echo alive || echo gone; rm pid",
        (b"alive\n", b"", 0),
        (b"gone\n", b"", 0),
    ),
    same("two at one time", "{run} sh -c 'sleep 0.2; echo a > a' & {run} sh -c 'echo b > b' & wait; cat a b"),
    same("ended by a time-out", "timeout 1 {run} sh -c 'trap \"echo term; exit 5\" TERM; sleep 20 & wait'; echo $?"),
    same("TERM of the program", "{run} sleep 20 & child=$!; sleep 1; kill -TERM $child; wait $child; echo $?"),
]
