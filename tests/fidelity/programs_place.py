"""Programs about where a task runs (K2), and what stays of it in its process (K3)."""

from __future__ import annotations

from tests.fidelity.table import IMPORT, program, whole

READ = "def read(name):\n    with open(name) as file:\n        return file.read()"

PROGRAMS = [
    # -- what a task meets ---------------------------------------------------------------------------
    program("reads a file of the working directory", READ, "print(pool.submit(read, 'data.txt').result())", files={"data.txt": "here"}),
    program(
        "writes a file: place and mode",
        "import pathlib\ndef write(name): pathlib.Path(name).write_text('x')",
        "pool.submit(write, 'made.txt').result()\nprint('made')",
    ),
    program(
        "umask set in main",
        "import os\nos.umask(0o077)\ndef write(name):\n    open(name, 'w').close()\n    os.mkdir('folder')",
        "pool.submit(write, 'made.txt').result()\nprint('made')",
    ),
    program(
        "executable file and folder",
        "import os\ndef f():\n    os.close(os.open('tool', os.O_CREAT | os.O_WRONLY, 0o777))\n    os.makedirs('a/b')",
        "pool.submit(f).result()\nprint('made')",
    ),
    whole(
        "chdir before the pool",
        f"import os\n{IMPORT}\nif __name__ == '__main__':\n    os.chdir('sub')\n    with Pool(1) as pool: print(pool.submit(os.listdir).result(), os.path.basename(pool.submit(os.getcwd).result()))\n",
        files={"sub/one.txt": "1"},
    ),
    program(
        "chdir between two submits",
        "import os",
        "print(os.path.basename(pool.submit(os.getcwd).result()) == 'sub')\nos.chdir('sub')\nprint(os.path.basename(pool.submit(os.getcwd).result()) == 'sub')",
        files={"sub/one.txt": "1"},
        differs="D13",
        standard="False\nFalse\n",
        ours="False\nTrue\n",
    ),
    program(
        "a working directory that is gone",
        "import os\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\ndef f():\n    try:\n        return os.getcwd()\n    except FileNotFoundError:\n        return 'gone'",
        "print(pool.submit(f).result())",
        how="command",
    ),
    program(
        "a symbolic link to the working directory",
        "import os\nos.symlink('.', 'link') if not os.path.lexists('link') else None\nos.chdir('link')",
        "print(pool.submit(os.getcwd).result() == os.getcwd())",
    ),
    program(
        "environment",
        "import os",
        "print([pool.submit(os.getenv, key).result() for key in ('GIVEN', 'EMPTY', 'MISSING', 'HOME')])",
        env={"GIVEN": "a b\n", "EMPTY": ""},
    ),
    program(
        "environment set and removed by main",
        "import os\nos.environ['MADE'] = 'x'\nos.environ.pop('GIVEN', None)",
        "print(pool.submit(os.getenv, 'MADE').result(), pool.submit(os.getenv, 'GIVEN').result())",
        env={"GIVEN": "1"},
    ),
    program(
        "environment reaches a child of the task",
        "import os, subprocess\nos.environ['MADE'] = 'x'\ndef f(): return subprocess.check_output(['sh', '-c', 'echo $MADE; pwd | sed s,.*/,,; umask'])",
        "print(pool.submit(f).result().split()[::2])",
    ),
    program(
        "time zone and locale",
        "import time, locale\ntry:\n    locale.setlocale(locale.LC_ALL, 'C.UTF-8')\nexcept locale.Error:\n    pass\ndef f(): return time.strftime('%H %Z', time.localtime(0)), locale.setlocale(locale.LC_ALL), locale.getpreferredencoding()",
        "print(pool.submit(f).result())",
        env={"TZ": "Asia/Tokyo"},
    ),
    program(
        "arguments of the program",
        "import sys, os\ndef f(): return [os.path.basename(sys.argv[0]), *sys.argv[1:]]",
        "print(pool.submit(f).result())",
        args=("--flag", "", "two words"),
    ),
    program(
        "arguments changed by main", "import sys\ndef f(): return sys.argv", "sys.argv[:] = ['x', 'y']\nprint(pool.submit(f).result())"
    ),
    program(
        "search path",
        "import sys\nsys.path.append('/nowhere')\ndef f(): return sys.path",
        "theirs = pool.submit(f).result()\nprint([p for p in sys.path if p not in theirs], theirs[0] == sys.path[0], '/nowhere' in theirs)",
    ),
    program(
        "recursion limit set in main",
        "import sys\nsys.setrecursionlimit(5000)\ndef f(n): return 0 if n == 0 else f(n - 1) + 1",
        "print(pool.submit(sys.getrecursionlimit).result(), pool.submit(f, 3000).result())",
    ),
    program(
        "decimal context set in main",
        "import decimal\ndecimal.getcontext().prec = 6\ndef f(): return decimal.Decimal(1) / 7",
        "print(pool.submit(f).result())",
    ),
    program(
        "warnings as errors, set in main",
        "import warnings\nwarnings.simplefilter('error')\ndef f():\n    try:\n        warnings.warn('w')\n    except UserWarning:\n        return 'raised'",
        "print(pool.submit(f).result())",
    ),
    program(
        "logging set in main",
        "import logging\nlogging.basicConfig(level=logging.INFO, filename='log.txt', format='%(levelname)s %(message)s')\ndef f(): logging.info('from the task')",
        "pool.submit(f).result()\nprint(open('log.txt').read())",
    ),
    program(
        "random seed set in main",
        "import random\nrandom.seed(4)\ndef f(): return random.random() == random.Random(4).random()",
        "print(pool.submit(f).result())",
        differs="D4",
        standard="False\n",
        ours="True\n",
    ),
    program(
        "numpy error state set in main",
        "import numpy as np\nnp.seterr(divide='raise')\ndef f():\n    try:\n        return np.ones(1) / 0\n    except FloatingPointError:\n        return 'raised'",
        "print(pool.submit(f).result())",
    ),
    program(
        "resource limits set in main",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\ndef f(): return resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_CORE)",
        "print(pool.submit(f).result())",
    ),
    program("temporary folder", "import tempfile", "print(pool.submit(tempfile.gettempdir).result())", env={"TMPDIR": "/var/tmp"}),
    program(
        "standard input",
        "import sys, os\ndef f(): return os.isatty(0) or sys.stdin.read()",
        "print(repr(pool.submit(f).result()))",
        differs="D18",
        differs_on=("tmux",),
        standard="''\n",
        ours="True\n",
    ),
    program(
        "the thread of a task is the main thread",
        "import threading\ndef f(): return threading.current_thread() is threading.main_thread(), threading.active_count() >= 1",
        "print(pool.submit(f).result())",
    ),
    program(
        "signals of a task",
        "import signal\ndef f():\n    seen = []\n    signal.signal(signal.SIGUSR1, lambda n, _: seen.append(n))\n    signal.raise_signal(signal.SIGUSR1)\n    return seen",
        "print(pool.submit(f).result())",
    ),
    program(
        "signals that a task blocks and waits for",
        "import os, signal\ndef f():\n    wanted = [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM]\n    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)\n    got = []\n    for number in wanted:\n        os.kill(os.getpid(), number)\n        got.append(signal.sigwait([number]).name)\n    return got",
        "print(pool.submit(f).result())",
        pools=("executor", "connect"),
    ),
    program(
        "a task that sends itself SIGINT",
        "import os, signal\ndef f():\n    try:\n        os.kill(os.getpid(), signal.SIGINT)\n    except KeyboardInterrupt:\n        return 'interrupted'\n    return 'went on'",
        "print(pool.submit(f).result())",
        differs="D20",
        standard="interrupted\n",
        ours="went on\n",
    ),
    program(
        "signals that a task blocks and never lets through",
        "import os, signal\ndef f():\n    for number in (signal.SIGUSR2, signal.SIGALRM, signal.SIGHUP):\n        signal.pthread_sigmask(signal.SIG_BLOCK, [number])\n        os.kill(os.getpid(), number)\n    return 1\ndef g(): return 2",
        "print(pool.submit(f).result(), pool.submit(g).result())",
        pools=("executor", "connect"),
    ),
    program(
        "optimised interpreter",
        "def f():\n    assert False\n    return __debug__",
        "print(pool.submit(f).result())",
        options=("-O",),
        differs="D14",
        standard="False\n",
        ours="False\n",
    ),
    program(
        "descriptors are not inherited",
        "import os\ndef f(fd):\n    try:\n        return os.fstat(fd).st_size\n    except OSError:\n        return 'closed'",
        "given = os.open('data.txt', os.O_RDONLY)\nos.dup2(given, 200)\nprint(pool.submit(f, 200).result())",
        files={"data.txt": "here"},
        differs="D15",
        standard="4\n",
        ours="closed\n",
    ),
    program(
        "a task prints",
        "def f():\n    print('from the task', flush=True)\n    return 1",
        "print(pool.submit(f).result())",
        differs="D1",
        standard="from the task\n1\n",
        ours="1\n",
    ),
    program(
        "the parent of a worker",
        "import os",
        "print(pool.submit(os.getppid).result() == os.getpid())",
        differs="D16",
        standard="True\n",
        ours="False\n",
    ),
    # -- what stays ----------------------------------------------------------------------------------
    program(
        "environment of one task, seen by the next",
        "import os\ndef f(): os.environ['LEFT'] = '1'",
        "pool.submit(f).result()\nprint(pool.submit(os.getenv, 'LEFT').result())",
        differs="D17",
        standard="1\n",
        ours="None\n",
        pools=("executor",),
    ),
    program(
        "working directory of one task, seen by the next",
        "import os",
        "pool.submit(os.chdir, '/').result()\nprint(pool.submit(os.getcwd).result() == '/')",
        differs="D17",
        standard="True\n",
        ours="False\n",
        pools=("executor",),
    ),
    program(
        "umask of one task, seen by the next",
        "import os\nos.umask(0o022)",
        "pool.submit(os.umask, 0o077).result()\nprint(oct(pool.submit(os.umask, 0o022).result()))",
        differs="D17",
        standard="0o77\n",
        ours="0o22\n",
        pools=("executor",),
    ),
    program(
        "settings of the interpreter, seen by the next",
        """
        import decimal, logging, sys, warnings
        def change():
            sys.setrecursionlimit(3333); sys.argv[:] = ["changed"]; decimal.getcontext().prec = 3
            warnings.simplefilter("error"); logging.disable(logging.CRITICAL); sys.excepthook = print
        def look():
            return [sys.getrecursionlimit() == 3333, sys.argv == ["changed"], decimal.getcontext().prec == 3,
                    warnings.filters[0][0] == "error", logging.root.manager.disable == logging.CRITICAL, sys.excepthook is print]
        """,
        "pool.submit(change).result()\nprint(set(pool.submit(look).result()))",
        differs="D17",
        standard="{True}\n",
        ours="{False}\n",
        pools=("executor",),
    ),
    program(
        "resource limits of one task, seen by the next",
        "import resource\ndef f(): resource.setrlimit(resource.RLIMIT_NOFILE, (77, 77))\ndef g(): return resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 77",
        "pool.submit(f).result()\nprint(pool.submit(g).result())",
        differs="D17",
        standard="True\n",
        ours="False\n",
        pools=("executor",),
    ),
    program(
        "standard output replaced by one task",
        "import io, sys\ndef f():\n    sys.stdout = io.StringIO()\n    return 1\ndef g(): return type(sys.stdout).__name__ == 'StringIO'",
        "print(pool.submit(f).result(), pool.submit(g).result())",
        differs="D17",
        standard="1 True\n",
        ours="1 False\n",
        pools=("executor",),
    ),
    program(
        "alarm left by one task",
        "import signal, threading\ndef f(): signal.setitimer(signal.ITIMER_REAL, 0.2)\ndef g():\n    threading.Event().wait(0.5)\n    return 'lives'",
        "pool.submit(f).result()\ntry:\n    print(pool.submit(g).result())\nexcept Exception as error:\n    print(type(error).__name__)",
        differs="D17",
        standard="BrokenProcessPool\n",
        ours="lives\n",
        pools=("executor",),
    ),
    program(
        "standard output closed by a task",
        "import sys\ndef f():\n    sys.stdout.close()\n    return 1\ndef g(): return 2",
        "print(pool.submit(f).result(), pool.submit(g).result())",
    ),
    program(
        "standard output opened again by a task, and put back",
        "import os, sys\ndef f():\n    sys.stdout = os.fdopen(1, 'w')\n    sys.stdout = sys.__stdout__\n    return 1\ndef g(): return 2",
        "print(pool.submit(f).result(), pool.submit(g).result())",
    ),
    program(
        "standard output detached by a task",
        "import sys\ndef f():\n    sys.stdout.detach()\n    return 1\ndef g(): return 2",
        "print(pool.submit(f).result(), pool.submit(g).result())",
    ),
    program(
        "standard output deleted by a task",
        "import sys\ndef f():\n    del sys.stdout, sys.stderr\n    return 1\ndef g(): return 2",
        "print(pool.submit(f).result(), pool.submit(g).result())",
    ),
    program(
        "a thread left by a task",
        "import threading\ndef f():\n    threading.Thread(target=threading.Event().wait, args=(0.2,), daemon=True).start()\n    return 1\ndef g(): return 2",
        "print(pool.submit(f).result(), pool.submit(g).result())",
    ),
    program(
        "a module imported by a task stays imported",
        "import sys\ndef f():\n    import colorsys\n    colorsys.mark = 5\ndef g(): return getattr(sys.modules.get('colorsys'), 'mark', None)",
        "pool.submit(f).result()\nprint(pool.submit(g).result())",
        pools=("executor",),
    ),
    program(
        "exit code of a forked child",
        "import os, sys\ndef f():\n    if os.fork() == 0:\n        os._exit(7)\n    return os.waitstatus_to_exitcode(os.wait()[1])",
        "print(pool.submit(f).result())",
    ),
    program(
        "exit code of a child of multiprocessing",
        "import multiprocessing, sys\ndef f():\n    child = multiprocessing.Process(target=sys.exit, args=(6,))\n    child.start(); child.join()\n    return child.exitcode",
        "print(pool.submit(f).result())",
    ),
]
