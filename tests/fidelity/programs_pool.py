"""Programs about the pool itself: its arguments, its futures, map, the end of it, and what uses it."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from tests.fidelity.table import IMPORT, Program, program, whole

INIT = "state = []\ndef init(*given): state.append(given)\ndef f(): return state\n"


def made(call: str, top: str, main: str, name: str, **given: object) -> Program:
    """A row whose pool is made by ``call``; with ``tries`` it prints the class of what making or using it raises."""
    tries = given.pop("tries", False)
    row = program(name, top, main, **{"pools": ("executor",), **given})
    text = row.text.replace("    with Pool(1)", f"    with {call}", 1)
    if tries:
        guarded = textwrap.indent(text.partition("'__main__':\n")[2], "    ")
        text = f"{text.partition(chr(39) + '__main__')[0]}'__main__':\n    try:\n{guarded}    except Exception as error:\n        print(type(error).__name__)\n"
    return replace(row, text=text)


EXECUTOR = [
    made(
        "Pool(1, initializer=init, initargs=(1, 'a'))",
        INIT,
        "print(pool.submit(f).result(), pool.submit(f).result(), state)",
        "initializer",
    ),
    made(
        "Pool(max_workers=1, initializer=print)",
        "",
        "print(pool.submit(abs, -1).result())",
        "initializer that prints",
        differs="D1",
        standard="\n1\n",
        ours="1\n",
    ),
    made(
        "Pool(1, initializer=init)",
        "def init(): raise ValueError('i')",
        "from concurrent.futures.process import BrokenProcessPool\nfutures = [pool.submit(abs, -1)]\ntry:\n    futures[0].result()\nexcept BrokenProcessPool:\n    print('broken')\ntry:\n    pool.submit(abs, -1)\nexcept BrokenProcessPool:\n    print('broken too')",
        "initializer that raises",
    ),
    made(
        "Pool(1, initializer=init, initargs=('cfg.txt',))",
        "cfg = None\ndef init(name):\n    global cfg\n    cfg = open(name).read()\ndef f(): return cfg",
        "print(pool.submit(f).result(), cfg)",
        "initializer that sets a global",
        files={"cfg.txt": "settings"},
    ),
    made(
        "Pool(1, max_tasks_per_child=2, mp_context=multiprocessing.get_context('spawn'))",
        "import multiprocessing, os",
        "pids = [pool.submit(os.getpid).result() for _ in range(4)]\nprint([pids.index(pid) for pid in pids])",
        "max_tasks_per_child",
    ),
    made(
        "Pool(1, mp_context=multiprocessing.get_context('spawn'))",
        "import multiprocessing\nprint(__name__ == '__main__')\nx = 1\ndef f(): return x",
        "x = 2\nprint(pool.submit(f).result())",
        "start method spawn",
        differs="D8",
        standard="True\nFalse\n1\n",
        ours="True\n2\n",
    ),
    made(
        "Pool(2)",
        "import threading\ndef f(n): return threading.Event().wait(n)",
        "from concurrent.futures import wait, FIRST_COMPLETED\nlong, short = pool.submit(f, 1.5), pool.submit(f, 0)\ndone, left = wait([long, short], return_when=FIRST_COMPLETED)\nprint(done == {short}, left == {long})",
        "wait for the first",
        pools=("connect",),
    ),
    made(
        "Pool(2)",
        "import threading\ndef f(n):\n    threading.Event().wait(n)\n    return n",
        "from concurrent.futures import as_completed\nprint([future.result() for future in as_completed([pool.submit(f, n) for n in (0.8, 0)])])",
        "as_completed",
        pools=("connect",),
    ),
    made(
        "Pool(2)",
        "import os\ndef inner(n): return n * 2\ndef outer(n):\n    with Pool(1) as pool:\n        return pool.submit(inner, n).result() + 1",
        "print(pool.submit(outer, 4).result())",
        "a pool in a task",
        pools=("connect",),
    ),
    made(
        "Pool(1)",
        "import threading\ndef f(n): threading.Event().wait(n)",
        "running = pool.submit(f, 1.0)\nqueued = [pool.submit(f, 0) for _ in range(9)]\nprint(queued[-1].cancel(), queued[-1].cancelled(), queued[-1].done())\nrunning.result()\nprint(running.cancel(), running.cancelled())",
        "cancel",
    ),
    made(
        "Pool(1)",
        "import threading\ndef f(n): return threading.Event().wait(n)",
        "from concurrent.futures import TimeoutError\nfuture = pool.submit(f, 0.6)\ntry:\n    future.result(timeout=0.05)\nexcept TimeoutError:\n    print('later')\nprint(future.result())",
        "result with a timeout",
        pools=("connect",),
    ),
    made(
        "Pool(1)",
        "import threading\ndef f(n): return threading.Event().wait(n)",
        "try:\n    for value in pool.map(f, [0, 0.8], timeout=0.4): print(value)\nexcept TimeoutError:\n    print('time over')",
        "map with a timeout",
        pools=("connect",),
    ),
    made(
        "Pool(1)",
        "import threading\ndef f(n): return threading.Event().wait(n)",
        "from concurrent.futures import as_completed\ntry:\n    list(as_completed([pool.submit(f, 0.6)], timeout=0.05))\nexcept TimeoutError as error:\n    print(error)",
        "as_completed with a timeout",
        pools=("connect",),
    ),
    made(
        "Pool(1)",
        "import threading\ndef f(n):\n    threading.Event().wait(0.05)\n    return n",
        "futures = [pool.submit(f, n) for n in range(20)]\nfutures[0].result()\npool.shutdown(cancel_futures=True)\nprint(all(future.done() for future in futures), any(future.cancelled() for future in futures), futures[0].result())",
        "shutdown that cancels",
    ),
    made(
        "Pool(1)",
        "import pathlib, threading\ndef f():\n    threading.Event().wait(0.3)\n    pathlib.Path('done').write_text('x')",
        "future = pool.submit(f)\npool.shutdown(wait=False)\nprint('not waited for')",
        "shutdown without waiting",
    ),
    made("Pool()", "", "print(pool.submit(abs, -1).result())", "as many workers as there are cores"),
    whole(
        "refused arguments",
        f"{IMPORT}\nfor given in ({{'max_workers': 0}}, {{'max_workers': -1}}, {{'initializer': 3}}, {{'max_tasks_per_child': 0}}, {{'max_tasks_per_child': 1.5}}):\n    try:\n        Pool(**given)\n    except (ValueError, TypeError) as error:\n        print(type(error).__name__, error)\n",
        pools=("executor",),
    ),
    made(
        "Pool(1, initializer=init, initargs=(multiprocessing.Lock(),))",
        "import multiprocessing\ndef init(lock):\n    global held\n    held = lock\ndef f():\n    with held: return 1",
        "print(pool.submit(f).result())",
        "a lock of multiprocessing",
        tries=True,
        differs="D11",
        standard="1\n",
        ours="RuntimeError\n",
    ),
    made(
        "Pool(1)",
        "import multiprocessing\ndef f(shared): return list(shared)",
        "with multiprocessing.Manager() as manager:\n    try:\n        print(pool.submit(f, manager.list([1])).result())\n    except Exception as error:\n        print(type(error).__name__)",
        "an object of a manager",
        pools=("connect",),
        differs="D12",
        standard="[1]\n",
        ours="AuthenticationError\n",
    ),
    made(
        "Pool(1)",
        "def f(): raise ValueError('v')",
        "print(type(pool.submit(f).exception().__cause__).__module__)",
        "the class of a cause",
        pools=("connect",),
        differs="D7",
        standard="concurrent.futures.process\n",
        ours="tmax.api.task_errors\n",
    ),
    made(
        "Pool(1)",
        "import threading\ndef f(): threading.Event().wait(0.4)",
        "future = pool.submit(f)\nthreading.Event().wait(0.2)\nprint(future.running())",
        "running()",
        pools=("connect",),
        differs="D9",
        standard="True\n",
        ours="False\n",
    ),
    whole(
        "two programs with modules of one name, at one time",
        "import os, subprocess, sys\nrunning = [subprocess.Popen([sys.executable, '-P', f'{name}/prog.py'], env={**os.environ, 'PYTHONPATH': name + os.pathsep + os.environ.get('PYTHONPATH', '')}, stdout=subprocess.PIPE) for name in 'ab']\nfor one in running: print(one.communicate()[0].decode(), one.returncode)\n",
        files={
            f"{name}/{file}": text
            for name in "ab"
            for file, text in (
                ("same.py", f"def who(): return '{name}'\n"),
                (
                    "prog.py",
                    f"{IMPORT}\nimport same\nif __name__ == '__main__':\n    with Pool(1) as pool: print([pool.submit(same.who).result() for _ in range(9)])\n",
                ),
            )
        },
    ),
]

PROGRAMS = [
    *EXECUTOR,
    program(
        "map over several iterables, the shortest ends it",
        "",
        "print(list(pool.map(pow, [1, 2, 3], [3, 2])), list(pool.map(pow, [])), list(pool.map(max, [1, 5], [2, 4], [3, 3], chunksize=2)))",
    ),
    program(
        "map over a generator",
        "def f(x): return x + 1\ndef source():\n    for n in range(4):\n        print('gives', n)\n        yield n",
        "results = pool.map(f, source())\nprint('submitted')\nprint(list(results))",
    ),
    program(
        "map whose iterable raises",
        "def f(x): return x\ndef source():\n    yield 1\n    raise KeyError('source')",
        "try:\n    print(list(pool.map(f, source())))\nexcept KeyError as error:\n    print(repr(error))",
    ),
    program(
        "map raises in order",
        "def f(x): return 10 // x",
        "results = pool.map(f, [1, 2, 0, 5])\nprint(next(results), next(results))\ntry:\n    next(results)\nexcept ZeroDivisionError as error:\n    print(error)\nprint(list(results))",
    ),
    program(
        "map with chunks: one fails",
        "def f(x): return 10 // x",
        "results = pool.map(f, [1, 2, 0, 5], chunksize=2)\ntry:\n    for value in results: print(value)\nexcept ZeroDivisionError as error:\n    print(error)",
    ),
    program(
        "map refuses a chunk of 0",
        "",
        "for size in (0, -1):\n    try:\n        pool.map(abs, [1], chunksize=size)\n    except ValueError as error:\n        print(error)",
    ),
    program("map ended early", "def f(x): return x", "for value in pool.map(f, range(50)):\n    if value == 3: break\nprint(value)"),
    program(
        "keywords named as the parameters of submit",
        "def f(*args, **kw): return args, sorted(kw.items())",
        "print(pool.submit(f, 1, fn=2, self=3, timeout=4).result())\nfor call in (lambda: pool.submit(), lambda: pool.submit(fn=f)):\n    try:\n        call()\n    except TypeError:\n        print('refused')",
    ),
    program("what is not callable", "", "try:\n    pool.submit(3, 4).result()\nexcept TypeError as error:\n    print(error)"),
    program(
        "a wrong number of arguments", "def f(a): pass", "try:\n    pool.submit(f).result()\nexcept TypeError as error:\n    print(error)"
    ),
    program(
        "submit after shutdown",
        "",
        "pool.shutdown()\npool.shutdown()\nfor call in (lambda: pool.submit(abs, 1), lambda: list(pool.map(abs, [1]))):\n    try:\n        call()\n    except RuntimeError as error:\n        print(error)",
    ),
    program(
        "kinds of futures and pools",
        "from concurrent.futures import Executor, Future",
        "future = pool.submit(abs, -2)\nprint(isinstance(pool, Executor), isinstance(future, Future), future.result(), future.done(), future.exception(), pool.__enter__() is pool)",
    ),
    program(
        "callbacks",
        "import threading\ndef f(x): return x",
        "seen = []\nfuture = pool.submit(f, 1)\nfor n in range(3): future.add_done_callback(lambda got, n=n: seen.append((n, got.result())))\nfuture.result()\npool.shutdown()\nfuture.add_done_callback(lambda got: seen.append('late'))\nprint(seen)",
    ),
    program(
        "a callback that raises",
        "def f(x): return x",
        "import logging\nlogging.disable()\nseen = []\nfuture = pool.submit(f, 1)\nfuture.add_done_callback(lambda got: 1 / 0)\nfuture.add_done_callback(seen.append)\npool.submit(f, 2).result()\npool.shutdown()\nprint(future.result(), len(seen))",
    ),
    program(
        "a callback that submits",
        "import queue\ndef f(x): return x + 1",
        "done = queue.SimpleQueue()\npool.submit(f, 1).add_done_callback(lambda got: pool.submit(f, got.result()).add_done_callback(lambda last: done.put(last.result())))\nprint(done.get(timeout=30))",
    ),
    program(
        "wait with exceptions",
        "def f(x): return 1 // x",
        "from concurrent.futures import wait, FIRST_EXCEPTION, ALL_COMPLETED\ndone, left = wait([pool.submit(f, n) for n in (1, 2)], return_when=ALL_COMPLETED)\nprint(len(done), len(left))\ndone, left = wait([pool.submit(f, 0)], return_when=FIRST_EXCEPTION)\nprint([repr(future.exception()) for future in done])",
    ),
    program(
        "threads in the program",
        "import threading\ndef f(x): return x * 2",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(8) as threads:\n    print(sum(threads.map(lambda n: pool.submit(f, n).result(), range(40))))",
    ),
    program(
        "threads that submit first at one time",
        "import threading, helper, os\ndef f(x): return helper.twice(x), os.path.basename(os.getcwd()) == os.path.basename(os.environ['PWD_NOW'])",
        "os.environ['PWD_NOW'] = os.getcwd()\nstart, got = threading.Barrier(16), []\ndef go(n):\n    start.wait()\n    got.append(pool.submit(f, n).result())\nthreads = [threading.Thread(target=go, args=(n,)) for n in range(16)]\nfor one in threads: one.start()\nfor one in threads: one.join()\nprint(sorted(got))",
        files={"helper.py": "def twice(x): return x * 2\n"},
    ),
    program(
        "asyncio",
        "import asyncio\ndef f(x): return x * 2\ndef bad(): raise KeyError('k')\nasync def main(pool):\n    loop = asyncio.get_running_loop()\n    print(await asyncio.gather(*(loop.run_in_executor(pool, f, n) for n in range(5))))\n    try:\n        await loop.run_in_executor(pool, bad)\n    except KeyError as error:\n        print(repr(error))\n    print(await asyncio.wrap_future(pool.submit(f, 9)))",
        "asyncio.run(main(pool))",
    ),
    program(
        "values that come back as they went",
        """
        import array, collections, datetime, decimal, fractions, ipaddress, math, pathlib, re, uuid
        def same(x): return x
        shared = [1]
        VALUES = [
            None, True, 0, -1, 2**100, 1.5, math.inf, -0.0, 1j, "", "ä€😀", "\\ud800", "a\\0b", b"", b"\\0\\xff", bytearray(b"x"), (), (1,), [], [[]], {}, {1: {2: 3}},
            {"a", 1}, frozenset([1]), range(1, 9, 2), slice(1, None, 2), ..., NotImplemented, int, list[int], len, math.sqrt, datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
            datetime.timedelta(1), decimal.Decimal("1.10"), fractions.Fraction(1, 3), pathlib.Path("a/b"), re.compile("a+", re.I), uuid.UUID(int=5), ipaddress.ip_address("::1"),
            collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]), collections.deque([1], 3), collections.Counter("aab"), array.array("d", [1.5]), ValueError("v").args, same,
        ]
        """,
        """
        got = pool.submit(same, VALUES).result()
        print([(a, b) for a, b in zip(VALUES, got) if not (type(a) is type(b) and a == b)])
        print(math.isnan(pool.submit(same, math.nan).result()), str(pool.submit(same, -0.0).result()), got[26] is ..., got[27] is NotImplemented, got[-1] is same)
        one, two = pool.submit(same, (shared, shared)).result()
        print(one is two, one is shared)
        """,
    ),
    program(
        "an argument changed there stays as it is here",
        "def f(x):\n    x.append(2)\n    return x",
        "given = [1]\nprint(pool.submit(f, given).result(), given)",
    ),
    program(
        "an argument changed here after submit",
        "import threading\ndef f(x): return x",
        "given = [1]\nfuture = pool.submit(f, given)\nfuture.result()\ngiven.append(2)\nprint(future.result())",
    ),
    program(
        "a value that refers to itself, one nested deeply",
        "def f(x): return x",
        "loop = []\nloop.append(loop)\ngot = pool.submit(f, loop).result()\nprint(got[0] is got)\ndeep = []\nfor _ in range(100_000): deep = [deep]\ntry:\n    pool.submit(f, deep).result()\nexcept RecursionError:\n    print('too deep')",
    ),
    program(
        "numbers of numpy",
        "import numpy as np\ndef f(*given): return [value * 2 for value in given]",
        "got = pool.submit(f, np.float32(1.5), np.arange(3, dtype='>i2'), np.zeros((2, 0)), np.array(['a'], dtype=object), np.ma.array([1, 2], mask=[0, 1])).result()\nprint(got, [getattr(value, 'dtype', None) for value in got])",
    ),
    program(
        "a future is not an argument",
        "",
        "future = pool.submit(abs, -1)\ntry:\n    pool.submit(id, future).result()\nexcept TypeError as error:\n    print('refused')",
    ),
]
