"""Programs about the code of a task: it runs the code, and only the code, of the program that submits it (K1)."""

from __future__ import annotations

from tests.fidelity.table import IMPORT, program, whole

GUARDED = (
    f"{IMPORT}\nimport helper\nif __name__ == '__main__':\n    with Pool(1) as pool:\n        print(pool.submit(helper.who).result())\n"
)

PROGRAMS = [
    program("function of main", "def f(x):\n    return x + 1", "print(pool.submit(f, 1).result())"),
    program(
        "builtin",
        "import math",
        "print(pool.submit(pow, 2, 10).result(), list(pool.map(math.sqrt, [4, 9])), pool.submit('a-b'.split, '-').result())",
    ),
    program(
        "methods",
        """
        class Counter:
            step = 2
            def __init__(self, start): self.start = start
            def add(self, n): return self.start + n * self.step
            @classmethod
            def of(cls, n): return cls(n).start
            @staticmethod
            def double(n): return n * 2
            class Inner:
                def name(self): return type(self).__qualname__
        """,
        """
        counter = Counter(3)
        print(pool.submit(counter.add, 4).result(), pool.submit(Counter.of, 5).result(), pool.submit(Counter.double, 6).result())
        print(pool.submit(Counter.Inner().name).result(), counter.start)
        """,
    ),
    program(
        "object of a class of main comes back as that class",
        "class Point:\n    def __init__(self, x): self.x = x\ndef make(x): return Point(x)",
        "made = pool.submit(make, 3).result()\nprint(isinstance(made, Point), type(made) is Point, made.x, type(made).__module__)",
    ),
    program(
        "lru_cache",
        "import functools\ncalls = []\n@functools.lru_cache\ndef f(x):\n    calls.append(x)\n    return len(calls)",
        "print([pool.submit(f, n).result() for n in (1, 1, 2)])",
        pools=("executor",),
    ),
    program(
        "cached_property",
        "import functools\nclass A:\n    @functools.cached_property\n    def value(self): return 41\ndef f(a): return a.value + 1",
        "print(pool.submit(f, A()).result())",
    ),
    program(
        "global lock",
        "import threading\nlock = threading.Lock()\ndef f():\n    with lock:\n        return 'held'",
        "print(pool.submit(f).result())",
    ),
    program(
        "singledispatch",
        """
        import functools
        @functools.singledispatch
        def f(x): return "any"
        @f.register
        def _(x: int): return "int"
        @f.register
        def _(x: str): return "str"
        """,
        "print(list(pool.map(f, [1, 'a', 2.0])))",
    ),
    program(
        "dataclass, enum, named tuple, typed dict",
        """
        import dataclasses, enum, typing, collections
        @dataclasses.dataclass(frozen=True, order=True)
        class D:
            a: int
            b: list = dataclasses.field(default_factory=list)
        class E(enum.Enum):
            RED = 1
        class F(enum.Flag):
            A = 1
            B = 2
        class N(typing.NamedTuple):
            x: int
        T = collections.namedtuple("T", "u v")
        def f(*values): return values, [type(v).__name__ for v in values]
        """,
        """
        got, names = pool.submit(f, D(1, [2]), E.RED, F.A | F.B, N(4), T(5, 6)).result()
        print(got, names, got[1] is E.RED, got == (D(1, [2]), E.RED, F.A | F.B, N(4), T(5, 6)))
        """,
    ),
    program(
        "partial, itemgetter, methodcaller",
        "import functools, operator\ndef f(a, b=0, *, c=0): return a + b * 10 + c * 100",
        """
        print(pool.submit(functools.partial(f, 1, c=3), 2).result(), pool.submit(operator.itemgetter(1), "xyz").result())
        print(pool.submit(operator.methodcaller("upper"), "shout").result())
        """,
    ),
    program(
        "decorated",
        """
        import functools
        def twice(fn):
            @functools.wraps(fn)
            def inner(*args): return fn(*args) * 2
            return inner
        @twice
        def f(x): return x + 1
        """,
        "print(pool.submit(f, 1).result(), f.__name__)",
    ),
    program(
        "abstract class, metaclass, slots, reduce",
        """
        import abc
        class Meta(type):
            def __new__(cls, name, bases, space, **kw): return super().__new__(cls, name, bases, {**space, "made": name})
        class Base(abc.ABC):
            @abc.abstractmethod
            def value(self): ...
        class Leaf(Base):
            __slots__ = ("x",)
            def __init__(self, x): self.x = x
            def value(self): return self.x
        class Own(metaclass=Meta):
            def __init__(self, x): self.x = x
            def __reduce__(self): return Own, (self.x + 1,)
        class State:
            def __getstate__(self): return {"kept": 1}
            def __setstate__(self, state): self.kept = state["kept"] + 1
        def f(leaf, own, state): return leaf.value(), own.x, own.made, state.kept, isinstance(leaf, Base)
        """,
        "print(pool.submit(f, Leaf(1), Own(1), State()).result())",
    ),
    program(
        "recursion, generators, comprehension, async",
        """
        import asyncio
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def numbers(n): yield from range(n)
        def total(n): return sum(x for x in numbers(n))
        async def later(n):
            await asyncio.sleep(0)
            return n
        def run(n): return asyncio.run(later(n))
        """,
        "print(pool.submit(even, 10).result(), pool.submit(total, 5).result(), pool.submit(run, 7).result())",
    ),
    program(
        "name and file of main",
        "import sys, os\ndef f(): return __name__, os.path.basename(__file__), f.__module__, os.path.basename(sys.modules['__main__'].__file__)",
        "print(pool.submit(f).result())",
    ),
    program("source of a function", "import inspect\ndef f():\n    return inspect.getsource(f)", "print(pool.submit(f).result())"),
    program(
        "globals set below the guard",
        "table = {}\nscale = 1\ndef f(k): return table.get(k), scale",
        "table['a'] = 5\nscale = 3\nprint(pool.submit(f, 'a').result())",
    ),
    program(
        "a task's globals stay in its worker",
        "count = 0\ndef f():\n    global count\n    count += 1\n    return count",
        "print([pool.submit(f).result() for _ in range(3)], count)",
        pools=("executor",),
    ),
    program(
        "a function and a class of main as arguments are those of main",
        "def f(): pass\nclass A:\n    class B: pass\ndef g(x, y, z): return x is f, y is A, z is A.B, x, y, z, A.B()",
        "*same, x, y, z, b = pool.submit(g, f, A, A.B).result()\nprint(same, x is f, y is A, z is A.B, type(b) is A.B)",
    ),
    program("large global", "data = bytes(8_000_000)\ndef f(n): return len(data) + n", "print(sum(pool.map(f, range(20))))"),
    program(
        "default arguments",
        "def f(a, seen=[], *, b=2, **more):\n    seen.append(a)\n    return seen, b, more",
        "print(pool.submit(f, 1, b=3, z=4).result())",
    ),
    program(
        "lambda",
        "",
        "try:\n    print(pool.submit(lambda x: x + 1, 1).result())\nexcept Exception as error:\n    print('cannot pickle')",
        differs="D3",
        standard="cannot pickle\n",
        ours="2\n",
    ),
    program(
        "closure and local class",
        "def make(n):\n    class Local:\n        def value(self): return n\n    def inner(): return Local().value()\n    return inner",
        "try:\n    print(pool.submit(make(4)).result())\nexcept Exception as error:\n    print('cannot pickle')",
        differs="D3",
        standard="cannot pickle\n",
        ours="4\n",
    ),
    program(
        "result that only cloudpickle sends",
        "def f(): return lambda: 5",
        "try:\n    print(pool.submit(f).result()())\nexcept Exception as error:\n    print('cannot pickle')",
        differs="D3",
        standard="cannot pickle\n",
        ours="5\n",
    ),
    whole(
        "module beside main",
        GUARDED,
        files={"helper.py": "import other\ndef who(): return 'helper', other.name\n", "other.py": "name = 'other'\n"},
    ),
    whole(
        "a module named as one of the standard library",
        GUARDED.replace("helper", "colorsys"),
        files={"colorsys.py": "def who(): return 'mine'\n"},
    ),
    whole(
        "a module named as one that tmax uses",
        GUARDED.replace("helper", "msgspec_user"),
        files={"msgspec_user.py": "import utils\ndef who(): return utils.x\n", "utils.py": "x = 1\n"},
    ),
    whole(
        "package with relative imports",
        GUARDED.replace("import helper", "from pack.sub import helper"),
        files={
            "pack/__init__.py": "",
            "pack/base.py": "value = 3\n",
            "pack/sub/__init__.py": "",
            "pack/sub/helper.py": "from ..base import value\ndef who(): return value, __name__\n",
        },
    ),
    whole(
        "folder without __init__",
        GUARDED.replace("import helper", "from space import helper"),
        files={"space/helper.py": "def who(): return __name__\n"},
    ),
    whole(
        "sys.path extended in main",
        GUARDED.replace(
            "import helper", "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'lib'))\nimport helper"
        ),
        files={"lib/helper.py": "def who(): return 'lib'\n"},
    ),
    whole("PYTHONPATH", GUARDED, files={"lib/helper.py": "def who(): return 'by PYTHONPATH'\n"}, env={"PYTHONPATH": "lib"}),
    whole(
        "module from an archive",
        "import sys\nsys.path.insert(0, 'lib.zip')\n" + GUARDED,
        files={"lib.zip": "helper.py:def who(): return __file__.endswith('lib.zip/helper.py')"},
    ),
    whole(
        "a module made at run time",
        f"""
        {IMPORT}
        import sys, types
        made = types.ModuleType("made")
        exec("def f(x): return x * 3", made.__dict__)
        sys.modules["made"] = made
        if __name__ == "__main__":
            with Pool(1) as pool:
                print(pool.submit(made.f, 4).result())
        """,
    ),
    whole(
        "chdir, then import from there",
        f"import os; os.chdir('sub'); import helper\n{IMPORT}\nwith Pool(1) as pool: print(pool.submit(helper.who).result())\n",
        how="command",
        files={"sub/helper.py": "def who(): return 'sub'\n"},
    ),
    whole(
        "python -m package",
        f"{IMPORT}\nfrom . import part\ndef f(): return __name__, __package__, part.x, __spec__.name\nif __name__ == '__main__':\n    with Pool(1) as pool: print(pool.submit(f).result())\n",
        how="module",
        files={"prog/__init__.py": "", "prog/part.py": "x = 5\n"},
    ),
    whole(
        "python -m package.module, whose task starts processes",
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-m', 'pack.run'], capture_output=True, text=True).stdout)\n",
        files={
            "pack/__init__.py": "",
            "pack/part.py": "x = 5\n",
            "pack/run.py": f"{IMPORT}\nimport multiprocessing\nfrom .part import x\ndef g(n): return n + x\ndef f():\n    with multiprocessing.get_context('spawn').Pool(1) as inner: return inner.map(g, [1])\nif __name__ == '__main__':\n    with Pool(1) as pool: print(pool.submit(f).result())\n",
        },
    ),
    whole(
        "python -c", f"{IMPORT}\ndef f(x): return x + 1, __name__\nwith Pool(1) as pool: print(pool.submit(f, 1).result())\n", how="command"
    ),
    whole(
        "from stdin", f"{IMPORT}\ndef f(x): return x + 1, __name__\nwith Pool(1) as pool: print(pool.submit(f, 1).result())\n", how="stdin"
    ),
    whole(
        "not guarded",
        f"{IMPORT}\ndef f(x): return x + 1\npool = Pool(1)\nprint(pool.submit(f, 1).result())\npool.shutdown()\n",
        pools=("executor", "connect"),
    ),
    whole(
        "guard with main()",
        f"{IMPORT}\ndef f(x): return x + 1\ndef main():\n    with Pool(1) as pool:\n        print(pool.submit(f, 1).result())\n    return 3\nif __name__ == '__main__':\n    raise SystemExit(main())\n",
        code=3,
    ),
    whole(
        "a module edited while its program runs",
        differs="D10",
        standard="1\n1\n",
        ours="1\n2222\n",
        text=GUARDED.replace(
            "helper.who).result())",
            "helper.who).result())\n        open('helper.py', 'w').write('def who(): return 2222')\n        print(pool.submit(helper.who).result())",
        ),
        files={"helper.py": "def who(): return 1\n"},
        pools=("executor",),
    ),
    whole(
        "a module edited before its pool is made",
        differs="D10",
        standard="1\n",
        ours="2222\n",
        text=GUARDED.replace("    with", "    open('helper.py', 'w').write('def who(): return 2222')\n    with"),
        files={"helper.py": "def who(): return 1\n"},
    ),
    whole(
        "numpy",
        f"{IMPORT}\nimport numpy as np\ndef f(a): return a @ a\nif __name__ == '__main__':\n    with Pool(1) as pool:\n        print(pool.submit(f, np.arange(9.0).reshape(3, 3)).result().tolist(), pool.submit(np.dot, [1, 2], [3, 4]).result())\n",
    ),
    program(
        "the top level of main in a worker",
        "import os\nopen('ran.txt', 'a').write('x')\ndef f(): return 1",
        "print(pool.submit(f).result(), open('ran.txt').read())",
        differs="D4",
        standard="1 x\n",
        ours="1 xx\n",
    ),
    program(
        "a variable of an imported module that the program sets",
        "import helper",
        "helper.x = 2\nprint(pool.submit(helper.get).result())",
        differs="D19",
        standard="2\n",
        ours="1\n",
        files={"helper.py": "x = 1\ndef get(): return x\n"},
    ),
]
"""A ``lib.zip`` among ``files`` is ``NAME:TEXT`` of its one member."""
