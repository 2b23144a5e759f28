"""Programs run twice, as a user runs them: with a ProcessPoolExecutor and with a swarm.  They must print the same.

One swarm with one worker serves all of them: each program's main module is its own there.
"""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.box import Box

HEADER = """
from __future__ import annotations
import sys
if sys.argv[1] == "tmax":
    from tmax import Swarm
    def pool(): return Swarm.connect()
else:
    from concurrent.futures import ProcessPoolExecutor
    def pool(): return ProcessPoolExecutor(1)
"""
FOOTER = """
if __name__ == "__main__":
    with pool() as p:
        for call in calls():
            try:
                value = p.submit(*call).result(60)
            except Exception as error:
                value = (type(error) is globals().get(type(error).__name__, type(error)), type(error).__name__, error.args)
            print(getattr(call[0], "__name__", type(call[0])), value, type(value) is globals().get(type(value).__name__, type(value)))
"""

STATE = """
import collections, functools, threading
counter = 0
STATE, COUNTS = {}, collections.Counter()
LOCK = threading.Lock()
def count():
    global counter
    with LOCK:
        counter += 1
    return counter
def put(key): STATE[key] = 1; return sorted(STATE)
def read(): return sorted(STATE), counter, COUNTS["a"]
def tally(): COUNTS["a"] += 1; return COUNTS["a"]
def setting(value):
    global chosen
    chosen = value
def chosen_now(): return chosen
chosen = None
def attribute(): attribute.n += 1; return attribute.n
attribute.n = 0
def default(x, seen=[]): seen.append(x); return seen
class Counted:
    n = 0
    @classmethod
    def bump(cls): cls.n += 1; return cls.n
def bump(made): return made.bump(), Counted.n
class Single:
    one = None
    def __new__(cls):
        cls.one = cls.one or super().__new__(cls)
        return cls.one
SINGLE = Single(); SINGLE.n = 1
def single(): SINGLE.n += 1; return Single() is SINGLE, SINGLE.n
@functools.cache
def once(x): return object()
def twice(): return once(1) is once(1)
def calls():
    yield from [(count,), (count,), (put, "a"), (put, "b"), (read,), (tally,), (tally,), (read,), (setting, 5), (chosen_now,), (read,), (chosen_now,)]
    yield from [(attribute,), (attribute,), (default, 1), (default, 2), (bump, Counted()), (bump, Counted()), (twice,), (twice,), (single,), (single,)]
"""

OBJECTS = """
import contextvars, ctypes, functools, itertools, logging, os, queue, re, threading, weakref
RLOCK, CONDITION, EVENT, SEMAPHORE, LOCAL, BARRIER = (
    threading.RLock(), threading.Condition(), threading.Event(), threading.Semaphore(2), threading.local(), threading.Barrier(1))
EVENT.set(); LOCAL.v = 5
def locks():
    with RLOCK, CONDITION, SEMAPHORE: pass
    return EVENT.is_set(), LOCAL.v, BARRIER.wait()
class Keep: pass
KEEP = Keep()
VALUES, KEYS, REF, SET = weakref.WeakValueDictionary(k=KEEP), weakref.WeakKeyDictionary({KEEP: 1}), weakref.ref(KEEP), weakref.WeakSet([KEEP])
def weak(): return VALUES["k"] is KEEP, KEYS[KEEP], REF() is KEEP, KEEP in SET
LOG, PATTERN, QUEUE, SIMPLE, NUMBERS = logging.getLogger("x.y"), re.compile("a(b)"), queue.Queue(), queue.SimpleQueue(), itertools.count(5)
QUEUE.put(3)
VARIABLE = contextvars.ContextVar("v", default=3); VARIABLE.set(7)
def objects(): return LOG.name, PATTERN.match("ab").group(1), QUEUE.get(), SIMPLE.qsize(), next(NUMBERS), VARIABLE.get()
LIBRARY = ctypes.CDLL(None)
def library(): return LIBRARY.abs(-3)
environ, out, modules = os.environ, sys.stdout, sys.modules
def streams(): print(end="", file=out); return environ is os.environ, out is sys.stdout, modules is sys.modules
@functools.lru_cache(maxsize=None)
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
class Lazy:
    def __init__(self, x): self.x = x
    @functools.cached_property
    def double(self): return 2 * self.x
def lazy(made): return made.double
@functools.singledispatch
def show(x): return "object"
@show.register
def _(x: int): return "int"
@show.register(str)
def _text(x): return "str"
class Dispatching:
    @functools.singledispatchmethod
    def f(self, x): return "object"
    @f.register
    def _(self, x: int): return "int"
def dispatching(made): return made.f(1), made.f("")
power = functools.partial(pow, 2)
def use_partial(): return power(5)
def calls():
    return [(locks,), (weak,), (objects,), (library,), (streams,), (fibonacci, 80), (lazy, Lazy(4)), (show, 1), (show, "a"), (show, 1.5),
            (dispatching, Dispatching()), (use_partial,), (functools.partial(use_partial),), (Lazy(3).__getattribute__, "x")]
"""

CLASSES = """
import abc, collections, dataclasses, enum, functools, typing
from typing import Generic, NamedTuple, TypedDict, TypeVar
T = TypeVar("T")
class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def low(self): return self.name.lower()
def color(c): return c.low(), Color.BLUE, Color(1) is Color.RED, c is Color.RED
@dataclasses.dataclass
class Data:
    a: int
    b: list[Data] = dataclasses.field(default_factory=list)
def data(d): return Data(d.a + 1, [d])
def hints(): return sorted(typing.get_type_hints(Data)), typing.get_type_hints(data_of)
def data_of(x: Data) -> Color: ...
class Named(NamedTuple):
    x: int
    y: str = "q"
Old = collections.namedtuple("Old", "p q")
def named(n): return n._replace(y="z"), Old(*n)
class Typed(TypedDict): k: int
def typed(): return Typed(k=1)
class Box(Generic[T]):
    def __init__(self, v: T): self.v = v
class IntBox(Box[int]):
    def get(self): return super().__init__(9) or self.v
def generic(b): return b.get(), type(b) is IntBox
class Slots:
    __slots__ = ("__private", "a", "__weakref__")
    def __init__(self, a): self.a = a
    def __repr__(self): return f"Slots({self.a}, {hasattr(self, '__dict__')})"
class Meta(type):
    made = []
    def __new__(meta, name, bases, names):
        meta.made.append(name)
        return super().__new__(meta, name, bases, names)
class First(metaclass=Meta): pass
class Second(First): pass
class Sub:
    subs = []
    def __init_subclass__(cls): Sub.subs.append(cls.__name__)
class Sub1(Sub): pass
class Sub2(Sub1): pass
def announced(): return Meta.made, Second.__mro__[1] is First, Sub.subs, Sub2.__mro__[1] is Sub1
class Base(abc.ABC):
    @abc.abstractmethod
    def go(self): ...
class Impl(Base):
    def go(self): return "go"
Base.register(tuple)
def abstract(i): return i.go(), isinstance((), Base), isinstance(i, Base)
class Outer:
    class Inner:
        def __repr__(self): return "Inner"
def nested(): return Outer.Inner()
class Bad(Exception):
    def __init__(self, a, b): super().__init__(a, b)
def fail(): raise Bad(1, 2)
def catch():
    try: fail()
    except Bad as error: return error.args
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def decorate(f):
    @functools.wraps(f)
    def wrapper(*args): return f(*args), wrapper.__name__
    return wrapper
@decorate
def decorated(x): return x + 1
def calls():
    return [(color, Color.RED), (data, Data(1)), (hints,), (named, Named(1)), (typed,), (generic, IntBox(1)), (Slots, 4), (announced,),
            (abstract, Impl()), (nested,), (fail,), (catch,), (even, 10), (decorated, 1), (Data, 3), (Impl().go,), (Color, 2)]
"""

NAMES = """
import inspect, os, pickle, sqlite3, types
def even(n): return n % 2 == 0
class Data: pass
def source(): return inspect.getsource(even), even.__code__.co_filename == __file__, os.path.isfile(__file__)
def main_module():
    import __main__
    return __main__.Data is Data, __name__, type(pickle.loads(pickle.dumps(Data()))) is Data, pickle.loads(pickle.dumps(even)) is even
def by_name(): return sorted(name for name in globals() if name in ("Data", "even")), eval("even(3)")
def words(): return sys.argv[:1]
def documented():
    "the text"
    return documented.__doc__, documented.__module__, documented.__qualname__
CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
FILE = open(__file__)
def connected(): return CONNECTION.execute("select 1").fetchone(), FILE.readline()
made = types.ModuleType("made"); sys.modules["made"] = made
exec('''
K = 3
class P:
    def __init__(self, x): self.x = x
    def __repr__(self): return f"P({self.x * K})"
def f(p): return P(p.x + 1)
def grow():
    global K
    K += 1
    return K
''', made.__dict__)
def use_made():
    import made as again
    return made.grow(), made.P(2).x, again is made
def calls():
    return [(words,), (source,), (main_module,), (by_name,), (documented,), (connected,), (made.f, made.P(5)), (made.grow,), (made.grow,), (use_made,)]
"""


def run(box: Box, folder: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], env=box.env, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{box.story()}"
    return done.stdout


def both(box: Box, folder: Path, *words: str) -> list[str]:
    expected, printed = (run(box, folder, *words, how).splitlines() for how in ("processes", "tmax"))
    assert printed == expected
    return printed


@pytest.mark.parametrize("program", [STATE, OBJECTS, CLASSES, NAMES], ids=["state", "objects", "classes", "names"])
def test_a_program_prints_what_it_prints_with_processes(module_box: Box, tmp_path: Path, program: str) -> None:
    (tmp_path / "prog.py").write_text(HEADER + program + FOOTER)
    assert len(both(module_box, tmp_path, "prog.py")) > 8
    assert run(module_box, tmp_path, "prog.py", "tmax") == run(module_box, tmp_path, "prog.py", "tmax")  # nothing of another run is left


def test_a_module_run_by_its_name_imports_what_is_beside_it(module_box: Box, tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "beside.py").write_text("N = 7\n")
    program = """
    import sqlite3
    from . import beside
    CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
    def f():
        from .beside import N
        return N, beside.N, __package__, CONNECTION.execute("select 2").fetchone()
    def calls(): return [(f,)]
    """
    (package / "mod.py").write_text(HEADER + textwrap.dedent(program) + FOOTER)
    assert both(module_box, tmp_path, "-m", "pack.mod") == ["f (7, 7, 'pack', (2,)) True"]


def test_a_large_global_travels_once(module_box: Box, tmp_path: Path) -> None:
    program = """
    from array import array
    BIG = array("d", bytes(20_000_000))
    def f(i): return BIG[i]
    if __name__ == "__main__":
        with pool() as p:
            print(sum(p.map(f, range(60))), sum(p.map(f, range(60), chunksize=7)))
    """
    (tmp_path / "prog.py").write_text(HEADER + textwrap.dedent(program))
    folder = module_box.state / "blobs"
    before = sum(path.stat().st_size for path in folder.iterdir()) if folder.exists() else 0
    both(module_box, tmp_path, "prog.py")
    assert sum(path.stat().st_size for path in folder.iterdir()) - before < 45_000_000


def test_what_the_client_changes_between_two_submits_is_heard_and_what_a_task_changed_stays(module_box: Box, tmp_path: Path) -> None:
    program = """
    params, rate, touched = {"lr": 1}, 1, 0
    def read():
        global touched
        touched += 1
        return params["lr"], rate, touched
    def helper(): return 1
    def call(): return helper()
    if __name__ == "__main__":
        with pool() as p:
            print(p.submit(read).result(), p.submit(call).result())
            params["lr"], rate = 2, 3
            def helper(): return 2
            print(p.submit(read).result(), p.submit(call).result(), list(p.map(read, *[])))
    """
    (tmp_path / "prog.py").write_text(HEADER + textwrap.dedent(program))
    assert run(module_box, tmp_path, "prog.py", "tmax").splitlines() == ["(1, 1, 1) 1", "(2, 3, 2) 2 []"]


def test_what_cannot_be_sent_is_named(module_box: Box, tmp_path: Path) -> None:
    program = """
    import pickle, sqlite3
    def f(): return conn
    if __name__ == "__main__":
        conn = sqlite3.connect(":memory:")
        with pool() as p:
            error = p.submit(f).exception(0)
            print(isinstance(error, pickle.PicklingError), error)
            for one in (open(__file__), (x for x in ()), __import__("threading").Lock(), __import__("multiprocessing").Lock()):
                print(type(p.submit(repr, one).exception(0)).__name__)
    """
    (tmp_path / "prog.py").write_text(HEADER + textwrap.dedent(program))
    first, *others = run(module_box, tmp_path, "prog.py", "tmax").splitlines()
    assert first.startswith("True global 'conn' of function 'f' is a sqlite3.Connection: it cannot be sent")
    assert others == ["TypeError", "TypeError", "TypeError", "RuntimeError"]


@pytest.mark.parametrize("how", ["script", "words"])
def test_a_module_imported_before_or_after_the_folder_was_changed_is_found(module_box: Box, tmp_path: Path, how: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "strayed.py").write_text("class Q: pass\ndef f(): return __name__, Q()\n")
    program = """
    import os
    os.chdir("project")
    sys.path.insert(0, "")
    import strayed
    os.chdir("/")
    with pool() as p:
        name, q = p.submit(strayed.f).result(60)
        print(name, type(q) is strayed.Q)
    """
    text = HEADER + textwrap.dedent(program)
    (tmp_path / "prog.py").write_text(text)
    words = ["prog.py"] if how == "script" else ["-c", text]
    assert both(module_box, tmp_path, *words) == ["strayed True"]


def test_a_file_loaded_under_another_name_is_sent_by_value(module_box: Box, tmp_path: Path) -> None:
    (tmp_path / "some-file.py").write_text("class Q: pass\ndef f(): return __name__, Q()\n")
    program = """
    import importlib.util
    spec = importlib.util.spec_from_file_location("loaded", "some-file.py")
    loaded = sys.modules["loaded"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    if __name__ == "__main__":
        with pool() as p:
            name, q = p.submit(loaded.f).result(60)
            print(name, type(q) is loaded.Q)
    """
    (tmp_path / "prog.py").write_text(HEADER + textwrap.dedent(program))
    assert both(module_box, tmp_path, "prog.py") == ["loaded True"]


def test_ways_to_pickle_registered_with_multiprocessing_or_copyreg_are_used(module_box: Box, tmp_path: Path) -> None:
    program = """
    import copyreg
    from multiprocessing.reduction import ForkingPickler
    class A:
        def __reduce__(self): raise TypeError("not this way")
    class B(A): pass
    ForkingPickler.register(A, lambda a: (str, ("an A",)))
    copyreg.pickle(B, lambda b: (str, ("a B",)))
    if __name__ == "__main__":
        with pool() as p:
            print(p.submit(repr, A()).result(60), p.submit(repr, [B()]).result(60))
    """
    (tmp_path / "prog.py").write_text(HEADER + textwrap.dedent(program))
    assert both(module_box, tmp_path, "prog.py") == ["'an A' ['a B']"]


def test_two_programs_of_one_swarm_have_a_main_module_each(module_box: Box, tmp_path: Path) -> None:
    for folder, word in (("a", "A"), ("b", "B")):
        (tmp_path / folder).mkdir()
        program = f"""
        WORD = {word!r}
        def who(): return WORD, helper()
        def helper(): return WORD
        if __name__ == "__main__":
            with pool() as p:
                print(p.submit(who).result(60))
        """
        (tmp_path / folder / "prog.py").write_text(HEADER + textwrap.dedent(program))
    said = [run(module_box, tmp_path / folder, "prog.py", "tmax").strip() for folder in ("a", "b", "a")]
    assert said == ["('A', 'A')", "('B', 'B')", "('A', 'A')"]
    assert os.path.exists(module_box.state)


def test_a_result_of_a_class_of_the_program_is_shown_on_the_command_line(module_box: Box, tmp_path: Path) -> None:
    program = """
    import collections, dataclasses, enum
    @dataclasses.dataclass
    class Data:
        a: int
        b: list
    Pair = collections.namedtuple("Pair", "p q")
    class Color(enum.Enum): RED = 1
    class Bag(list): pass
    class Slots:
        __slots__ = ("x",)
        def __init__(self, x): self.x = x
    def f(): return [Data(1, [Data(2, [])]), Pair(1, 2), Color.RED, Bag([3]), Slots(4)]
    if __name__ == "__main__":
        with pool() as p:
            future = p.submit(f)
            future.result(60)
            print(future.task_id)
    """
    (tmp_path / "prog.py").write_text(HEADER + textwrap.dedent(program))
    number = run(module_box, tmp_path, "prog.py", "tmax").strip()
    shown = module_box.tmax("result", number).stdout.strip()
    red = "Color.RED" if enum.Enum("Color", "RED").RED.__reduce_ex__(5)[0] is getattr else "Color(1)"  # as this Python pickles it
    assert shown == f"[Data(a=1, b=[Data(a=2, b=[])]), Pair(1, 2), {red}, Bag([3]), Slots(x=4)]"
