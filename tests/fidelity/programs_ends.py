"""Programs about how a task and a program end (K4, K5)."""

from __future__ import annotations

from tests.fidelity.table import IMPORT, program, whole

RAISED = (
    "StopIteration(3)",
    "GeneratorExit()",
    "MemoryError()",
    "KeyboardInterrupt()",
    "SystemExit(3)",
    "SystemExit()",
    "SystemExit('text')",
    "AssertionError('a')",
    "UnicodeDecodeError('utf-8', b'a', 0, 1, 'r')",
    "TimeoutError('t')",
    "asyncio.CancelledError()",
    "concurrent.futures.CancelledError()",
    "BaseException('b')",
    "Warning('w')",
    "ImportError('i', name='n', path='p')",
    "no_such_name",
)
CAUGHT = """
try:
    print(pool.submit(f).result())
except BaseException as error:
    print(type(error).__name__, error)
"""
BROKEN = """
from concurrent.futures import BrokenExecutor
try:
    print(pool.submit(f).result())
except BrokenExecutor as error:
    print('broken')
"""

PROGRAMS = [
    program(
        "exception",
        "def f(): raise KeyError('k', 2)",
        "try:\n    pool.submit(f).result()\nexcept KeyError as error:\n    print(error.args, error.__cause__ is not None)",
    ),
    program(
        "exception() of a future",
        "def f(): raise ValueError('v')",
        "future = pool.submit(f)\nprint(repr(future.exception()), future.done(), future.cancelled())",
    ),
    program(
        "class of main",
        "class Mine(Exception):\n    def __init__(self, code):\n        super().__init__(code)\n        self.code = code\ndef f(): raise Mine(7)",
        "try:\n    pool.submit(f).result()\nexcept Mine as error:\n    print(type(error) is Mine, error.code)",
    ),
    program(
        "class of a module beside main",
        "import errors\ndef f(): raise errors.Own('x')",
        "try:\n    pool.submit(f).result()\nexcept errors.Own as error:\n    print(repr(error))",
        files={"errors.py": "class Own(ValueError): pass\n"},
    ),
    program(
        "attributes and notes",
        "def f():\n    error = OSError(2, 'no', 'name')\n    error.extra = [1]\n    error.add_note('a note')\n    raise error",
        "try:\n    pool.submit(f).result()\nexcept OSError as error:\n    print(error.errno, error.filename, error.extra, error.__notes__)",
    ),
    program(
        "a cause of its own",
        "def f():\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n        raise ValueError('v') from error",
        "error = pool.submit(f).exception()\nprint(repr(error), 'ZeroDivisionError' in str(error.__cause__), 'direct cause' in str(error.__cause__))",
    ),
    program(
        "the traceback shows the worker's line",
        "def f():\n    raise ValueError('v')  # this very line",
        "import traceback\nerror = pool.submit(f).exception()\nprint('this very line' in ''.join(traceback.format_exception(error)))",
    ),
    program(
        "exception group",
        "def f(): raise ExceptionGroup('g', [ValueError(1), TypeError(2)])",
        "try:\n    pool.submit(f).result()\nexcept* TypeError as group:\n    print('types', group.exceptions)\nexcept* ValueError as group:\n    print('values', group.exceptions)".replace(
            "except*", "except*"
        ),
    ),
    program(
        "exceptions of many classes",
        "import asyncio, concurrent.futures\ndef f(text): raise eval(text)",
        """
        for text in RAISED:
            try:
                print(pool.submit(f, text).result())
            except BaseException as error:
                print(type(error).__name__, error.args)
        """.replace("RAISED", repr(RAISED)),
    ),
    program("sys.exit", "import sys\ndef f(): sys.exit(4)", CAUGHT),
    program("recursion without end", "def f(): return f()", CAUGHT.replace("type(error).__name__, error", "type(error).__name__")),
    program(
        "an exception that cannot be made again",
        "class Mine(Exception):\n    def __init__(self, a, b): super().__init__(f'{a} {b}')\ndef f(): raise Mine(1, 2)",
        CAUGHT.replace("type(error).__name__, error", "type(error).__name__, 'Mine: 1 2' in str(error)"),
        differs="D6",
        standard="BrokenProcessPool False\n",
        ours="TaskFailed True\n",
    ),
    program(
        "an exception that cannot be sent",
        "import threading\ndef f():\n    error = ValueError('v')\n    error.lock = threading.Lock()\n    raise error",
        CAUGHT.replace("type(error).__name__, error", "type(error).__name__"),
        differs="D5",
        standard="TypeError\n",
        ours="TaskFailed\n",
    ),
    program(
        "a result that cannot be sent",
        "import threading\ndef f(): return threading.Lock()",
        CAUGHT.replace("type(error).__name__, error", "type(error).__name__, '_thread.lock' in str(error)"),
        differs="D5",
        standard="TypeError True\n",
        ours="ResultNotSendable True\n",
    ),
    program(
        "an argument that cannot be sent",
        "import threading",
        "try:\n    pool.submit(id, threading.Lock()).result()\nexcept TypeError as error:\n    print(error)",
    ),
    program(
        "a generator as an argument",
        "",
        "try:\n    pool.submit(list, (n for n in range(3))).result()\nexcept TypeError as error:\n    print(error)",
    ),
    program(
        "an argument that cannot be unpickled there",
        "def boom(): raise ValueError('there')\nclass Bad:\n    def __reduce__(self): return boom, ()",
        "from concurrent.futures import BrokenExecutor\ntry:\n    pool.submit(id, Bad()).result()\nexcept BrokenExecutor:\n    print('broken')\nexcept ValueError as error:\n    print(error)\ntry:\n    print(pool.submit(abs, -1).result())\nexcept BrokenExecutor:\n    print('broken')",
        differs="D6",
        standard="broken\nbroken\n",
        ours="there\n1\n",
    ),
    program(
        "other tasks go on after a failure",
        "def f(x): return 1 // x",
        "futures = [pool.submit(f, x) for x in (1, 0, -1)]\nprint([repr(future.exception()) for future in futures])",
    ),
    program("os._exit in a task", "import os\ndef f(): os._exit(3)", BROKEN),
    program("kill -9 of the worker by its task", "import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGKILL)", BROKEN),
    program("segmentation fault", "import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGSEGV)", BROKEN),
    program(
        "a task that dies takes nobody along",
        "import os\ndef die(): os._exit(3)\ndef f(x): return x",
        "from concurrent.futures import BrokenExecutor\npool.submit(die).exception()\ntry:\n    print(pool.submit(f, 1).result())\nexcept BrokenExecutor as error:\n    print('broken')",
        differs="D2",
        standard="broken\n",
        ours="1\n",
    ),
    program(
        "a worker that dies once",
        "import os\ndef f():\n    if not os.path.exists('tried'):\n        open('tried', 'w').close()\n        os._exit(3)\n    return 'second time'",
        BROKEN,
        differs="D2",
        standard="broken\n",
        ours="second time\n",
    ),
    program("an exception that nobody looks at", "def f(): raise ValueError('v')", "pool.submit(f)\nprint('goes on')"),
    program(
        "an uncaught exception of a task ends the program",
        "def f(): raise ValueError('v')",
        "print('before', flush=True)\npool.submit(f).result()",
        code=1,
    ),
    program(
        "sys.exit in the block",
        "import sys, pathlib\ndef f(): pathlib.Path('done').write_text('x')",
        "pool.submit(f)\nsys.exit(4)",
        code=4,
        pools=("executor",),
    ),
    program(
        "an exception in the block",
        "import pathlib\ndef f(): pathlib.Path('done').write_text('x')",
        "pool.submit(f)\nraise ValueError('v')",
        code=1,
        pools=("executor",),
    ),
    whole(
        "never shut down",
        f"{IMPORT}\nimport pathlib\ndef f(n): pathlib.Path(f'done{{n}}').write_text('x')\nif __name__ == '__main__':\n    pool = Pool(1)\n    for n in range(5): pool.submit(f, n)\n    print('end')\n",
        pools=("executor",),
    ),
    whole(
        "results of map not looked at",
        f"{IMPORT}\nimport pathlib\ndef f(n): pathlib.Path(f'done{{n}}').write_text('x')\nif __name__ == '__main__':\n    with Pool(1) as pool:\n        pool.map(f, range(5))\n    print('end')\n",
        pools=("executor", "connect"),
    ),
    program(
        "many submits, then the end",
        "import os\ndef f(n): os.mkdir(f'd{n}')",
        "futures = [pool.submit(f, n) for n in range(300)]\nprint(len(futures))",
        pools=("connect",),
    ),
    program(
        "a result of 30 MB, an argument of 30 MB",
        "def f(data): return data[::-1]",
        "data = bytes(range(250)) * 120_000\nprint(pool.submit(f, data).result() == data[::-1])",
    ),
    program(
        "2000 small tasks", "def f(n): return n * n", "print(sum(pool.map(f, range(2000))), sum(pool.map(f, range(2000), chunksize=100)))"
    ),
]
