"""Links: exact answers first, then both links in a small world that loses connections at every step."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmax_pipes.jobs import KernelJob
from tmax_pipes.link import ControllerLink, WorkerLink, without_overtaken
from tmax_pipes.messages import (
    Beat,
    Done,
    Failed,
    Failure,
    Go,
    Hello,
    Holding,
    Key,
    Message,
    Recall,
    Recalled,
    Report,
    Run,
    Started,
    Stop,
    Stored,
    Who,
)
from tmax_pipes.transport import Lane, lane_of


def run(task: int, attempt: int = 1, *, needs_go: bool = False) -> Run:
    return Run(task=task, attempt=attempt, job=KernelJob(name="matmul"), needs_go=needs_go)


def done(task: int, attempt: int = 1) -> Done:
    return Done(task=task, attempt=attempt, report=Report())


def hello(*holding: Holding, results: tuple[Key, ...] = ()) -> Hello:
    return Hello(life=1, pid=1, ticks=1, protocol=1, python="3.11.7", holding=holding, results=results)


def queued(task: int) -> Holding:
    return Holding(task=task, attempt=1, state="queued")


def asked(task: int) -> Holding:
    return Holding(task=task, attempt=1, state="asked")


def running(task: int) -> Holding:
    return Holding(task=task, attempt=1, state="running")


def link_of(*messages: Message) -> ControllerLink:
    link = ControllerLink()
    for message in messages:
        link.sent(message)
    return link


@pytest.mark.parametrize("end", [done(2), Failed(task=2, attempt=1, report=Report(), failure=Failure(kind="exit", message=""))])
def test_a_start_whose_end_follows_at_once_says_nothing_new(end: Message) -> None:
    start = Started(task=2, attempt=1)
    assert without_overtaken([done(1), start, end, Started(task=3, attempt=1)]) == [done(1), end, Started(task=3, attempt=1)]
    assert without_overtaken([start]) == [start]
    assert without_overtaken([start, done(1)]) == [start, done(1)]
    assert without_overtaken([start, done(2, 2)]) == [start, done(2, 2)]
    assert without_overtaken([start, Started(task=2, attempt=1, group=7), end]) == [start, end]


# -- the controller's side -------------------------------------------------------------------------


def test_run_is_said_again_when_the_worker_does_not_have_it() -> None:
    link = link_of(run(1), run(2), run(3), run(4))
    answer = hello(running(1), queued(2), results=((3, 1),))
    assert link.to_resend(answer) == [run(4)]
    assert link.to_resend(answer) == [run(4)]
    assert link.to_resend(hello()) == [run(1), run(2), run(3), run(4)], "nothing acknowledges a Run but an answer to it"


@pytest.mark.parametrize(
    "answer",
    [
        Started(task=1, attempt=1),
        Recalled(task=1, attempt=1),
        done(1),
        Failed(task=1, attempt=1, report=Report(), failure=Failure(kind="exit", message="")),
    ],
)
def test_run_is_forgotten_when_acknowledged(answer: Message) -> None:
    link = link_of(run(1), run(1, 2))
    link.received(answer)
    assert link.to_resend(hello()) == [run(1, 2)]


def test_go_is_said_again_only_to_who_asked() -> None:
    link = link_of(run(1, needs_go=True), run(2, needs_go=True), Go(task=1, attempt=1), Go(task=2, attempt=1))
    for task in (1, 2):
        link.received(Started(task=task, attempt=1))
    assert link.to_resend(hello(asked(1), running(2))) == [Go(task=1, attempt=1)]
    assert link_of().to_resend(hello(asked(1))) == []


def test_go_of_a_task_the_worker_has_finished_is_not_said_again() -> None:
    link = link_of(run(1, needs_go=True), Go(task=1, attempt=1))
    link.received(Started(task=1, attempt=1))
    assert link.to_resend(hello(results=((1, 1),))) == []
    link.received(done(1))
    assert link.to_resend(hello(asked(1))) == []


def test_recall_is_said_again_until_it_is_answered() -> None:
    link = link_of(run(1), run(2), run(3), *(Recall(task=task, attempt=1) for task in (1, 2, 3)))
    answer = hello(queued(1), running(2))
    assert link.to_resend(answer) == [Recall(task=1, attempt=1)]
    assert link.given_back(answer) == [Recalled(task=3, attempt=1)]
    link.received(Recalled(task=3, attempt=1))
    assert link.given_back(answer) == []


def test_a_recall_that_met_a_result_gives_nothing_back() -> None:
    link = link_of(run(1), Recall(task=1, attempt=1))
    assert link.given_back(hello(results=((1, 1),))) == []


def test_stop_is_said_again_while_it_can_matter() -> None:
    link = link_of(run(1), Stop(task=1, attempt=1, why="cancel"))
    link.received(Started(task=1, attempt=1))
    assert link.to_resend(hello(running(1))) == [Stop(task=1, attempt=1, why="cancel")]
    assert link.to_resend(hello()) == []
    link.received(done(1))
    assert link.to_resend(hello(running(1))) == []


def test_a_run_that_was_lost_and_is_to_be_stopped_counts_as_given_back() -> None:
    link = link_of(run(1), Stop(task=1, attempt=1))
    assert link.to_resend(hello()) == []
    assert link.given_back(hello()) == [Recalled(task=1, attempt=1)]
    assert link.given_back(hello(results=((1, 1),))) == []


def test_a_go_that_was_lost_is_not_said_again_once_the_task_is_to_be_stopped() -> None:
    link = link_of(run(1, needs_go=True), Go(task=1, attempt=1), Stop(task=1, attempt=1))
    assert link.to_resend(hello(asked(1))) == [Stop(task=1, attempt=1)]


def test_stop_of_the_worker_is_said_on_every_connection_the_last_one_only() -> None:
    link = link_of(Stop(why="drain"), run(1), Stop(why="now"))
    assert link.to_resend(hello()) == [run(1), Stop(why="now")]


def test_what_needs_no_memory_leaves_none() -> None:
    link = link_of(Who(epoch=1, swarm="s", worker="w"), Stored(keys=((1, 1),)))
    for message in (Beat(), hello(), done(9), Recalled(task=9, attempt=1), Started(task=9, attempt=1)):
        link.received(message)
    assert link.to_resend(hello()) == []


def test_order_is_that_of_first_saying() -> None:
    link = link_of(*(run(task) for task in (5, 3, 9, 1)))
    link.sent(run(3))
    assert link.to_resend(hello()) == [run(5), run(3), run(9), run(1)]


# -- the worker's side -----------------------------------------------------------------------------


def test_results_are_said_again_until_stored() -> None:
    link = WorkerLink()
    failed = Failed(task=2, attempt=1, report=Report(), failure=Failure(kind="exit", message="1"))
    for message in (done(1), failed, done(3), Beat()):
        link.sent(message)
    assert link.results() == ((1, 1), (2, 1), (3, 1))
    assert link.to_resend() == [done(1), failed, done(3)] == link.to_resend()
    link.received(Stored(keys=((1, 1), (3, 1), (77, 1))))
    link.received(Stored(keys=((1, 1),)))
    assert link.to_resend() == [failed]


def test_the_latest_started_is_said_again_until_the_task_ends() -> None:
    link = WorkerLink()
    for message in (Started(task=1, attempt=1), Started(task=2, attempt=1), Started(task=1, attempt=1, group=77)):
        link.sent(message)
    link.sent(Recalled(task=2, attempt=1))
    assert link.to_resend() == [Started(task=1, attempt=1, group=77)]
    link.sent(done(1))
    assert link.to_resend() == [done(1)]


# -- both, in a small world that loses -------------------------------------------------------------

Choose = Callable[[int], int]
"""A number from 0 to n - 1: Hypothesis gives it, or a seed."""


class Lanes:
    """One connection: three queues.  ``cut`` leaves what was read, and loses the rest."""

    def __init__(self) -> None:
        self.queues: dict[Lane, deque[Message]] = {"tasks": deque(), "control": deque(), "results": deque()}

    def put(self, messages: list[Message]) -> None:
        for message in messages:
            self.queues[lane_of(message)].append(message)


class World:
    """A controller that wants tasks done and a worker that does them, each as small as its promise allows.

    The controller's ``runs``, ``gone`` (Go committed), ``ends`` are its store: they survive a restart, its link does not.
    """

    link_type = ControllerLink
    worker_link_type = WorkerLink

    def __init__(self, tasks: int) -> None:
        self.lanes: Lanes | None = None
        self.link = self.link_type()
        self.worker_link = self.worker_link_type()
        self.greeted = False
        self.wanted = deque((task, 1) for task in range(1, tasks + 1))
        self.runs: dict[Key, Run] = {}
        self.recalls: set[Key] = set()
        self.gone: set[Key] = set()
        self.ends: Counter[int] = Counter()
        self.heard_of: set[Key] = set()  # the worker's side from here
        self.queue: deque[Run] = deque()
        self.current: Run | None = None
        self.state = "idle"
        self.recalled_early: set[Key] = set()
        self.executions: Counter[Key] = Counter()

    # the controller

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.link.sent(message)
        if self.lanes and self.greeted:
            self.lanes.put(list(messages))

    def lease(self) -> None:
        if self.wanted and self.greeted:
            task, attempt = self.wanted.popleft()
            self.runs[task, attempt] = run(task, attempt, needs_go=task % 2 == 0)
            self.say(self.runs[task, attempt])

    def recall(self, number: int) -> None:
        candidates = [key for key, sent in self.link._open.items() if Run in sent and key not in self.recalls]
        if candidates and self.greeted:
            key = candidates[number % len(candidates)]
            self.recalls.add(key)
            self.say(Recall(task=key[0], attempt=key[1]))

    def restart(self) -> None:
        """The controller dies and comes back with its store only."""
        self.cut()
        self.link = self.link_type()
        for key, order in self.runs.items():
            self.link.sent(order)
            if key in self.recalls:
                self.link.sent(Recall(task=key[0], attempt=key[1]))
            if key in self.gone:
                self.link.received(Started(task=key[0], attempt=key[1]))
                self.link.sent(Go(task=key[0], attempt=key[1]))

    def controller_hears(self, message: Message) -> None:
        self.link.received(message)
        match message:
            case Hello():
                first, self.greeted = not self.greeted, True
                if first:
                    assert self.lanes is not None
                    for recalled in self.link.given_back(message):
                        self.controller_hears(recalled)
                    self.lanes.put(self.link.to_resend(message))
            case Started(task=task, attempt=attempt) if (order := self.runs.get((task, attempt))) and order.needs_go:
                if (task, attempt) not in self.gone:  # a start is committed once; that its Go arrives is the link's duty
                    self.gone.add((task, attempt))
                    self.say(Go(task=task, attempt=attempt))
            case Recalled(task=task, attempt=attempt) if self.runs.pop((task, attempt), None):
                self.recalls.discard((task, attempt))
                self.wanted.append((task, attempt + 1))
            case Done(task=task, attempt=attempt):
                if self.runs.pop((task, attempt), None):
                    self.ends[task] += 1
                self.say(Stored(keys=((task, attempt),)))
            case _:
                pass

    # the worker

    def worker_says(self, message: Message) -> None:
        self.worker_link.sent(message)
        if self.lanes and self.greeted_worker:
            self.lanes.put([message])

    def worker_hears(self, message: Message) -> None:
        self.worker_link.received(message)
        match message:
            case Who():
                self.greeted_worker = True
                assert self.lanes is not None
                self.lanes.put([hello(*self.holding(), results=self.worker_link.results()), *self.worker_link.to_resend()])
            case Run(task=task, attempt=attempt):
                self.take(message, (task, attempt))
            case Recall(task=task, attempt=attempt):
                self.give_back((task, attempt))
            case Go(task=task, attempt=attempt):
                if self.current and self.state == "asked" and (self.current.task, self.current.attempt) == (task, attempt):
                    self.begin()
            case _:
                pass

    def take(self, order: Run, key: Key) -> None:
        assert key not in self.worker_link.results(), "said again although its result is known"
        assert key not in [(one.task, one.attempt) for one in self.holding()], "said again although it is held"
        if key in self.recalled_early:
            self.worker_says(Recalled(task=key[0], attempt=key[1]))
        else:
            self.queue.append(order)

    def give_back(self, key: Key) -> None:
        for order in self.queue:
            if (order.task, order.attempt) == key:
                self.queue.remove(order)
                self.worker_says(Recalled(task=key[0], attempt=key[1]))
                return
        self.recalled_early.add(key)

    def begin(self) -> None:
        assert self.current is not None
        self.state = "running"
        self.executions[self.current.task, self.current.attempt] += 1

    def work(self) -> None:
        """The worker makes one step: the next task's turn comes, or the running one ends."""
        if self.current is None and self.queue:
            self.current = self.queue.popleft()
            self.state = "asked"
            self.worker_says(Started(task=self.current.task, attempt=self.current.attempt))
            if not self.current.needs_go:
                self.begin()
        elif self.current and self.state == "running":
            order, self.current, self.state = self.current, None, "idle"
            self.worker_says(done(order.task, order.attempt))

    def holding(self) -> list[Holding]:
        held = [Holding(task=order.task, attempt=order.attempt, state="queued") for order in self.queue]
        if self.current:
            held.insert(
                0, Holding(task=self.current.task, attempt=self.current.attempt, state="asked" if self.state == "asked" else "running")
            )
        return held

    # between them

    def connect(self) -> None:
        if self.lanes is None:
            self.lanes, self.greeted, self.greeted_worker = Lanes(), False, False
            self.lanes.put([Who(epoch=1, swarm="s", worker="w")])

    def cut(self) -> None:
        self.lanes, self.greeted, self.greeted_worker = None, False, False

    def deliver(self, lane: Lane) -> None:
        if self.lanes and self.lanes.queues[lane]:
            message = self.lanes.queues[lane].popleft()
            (self.controller_hears if lane == "results" else self.worker_hears)(message)

    def step(self, choose: Choose) -> None:
        steps: list[Callable[[], None]] = [
            self.lease,
            self.work,
            self.connect,
            lambda: self.deliver("tasks"),
            lambda: self.deliver("control"),
            lambda: self.deliver("results"),
            lambda: self.deliver("results"),
            lambda: self.recall(choose(3)),
            self.cut,
            self.restart,
        ]
        steps[choose(len(steps))]()

    def settle(self) -> None:
        """No more losses: let everything that is on its way arrive."""
        for _ in range(400):
            self.connect()
            self.lease()
            self.work()
            for lane in ("control", "tasks", "results"):
                self.deliver(lane)

    def check(self, tasks: int) -> None:
        assert self.ends == dict.fromkeys(range(1, tasks + 1), 1), "a task is lost, or recorded twice"
        assert not self.runs
        assert not self.worker_link.to_resend(), "the worker keeps what is stored"
        assert not self.link.to_resend(hello()), "the controller would say something again"
        per_task = Counter(key[0] for key in self.executions.elements())
        assert per_task == dict.fromkeys(range(1, tasks + 1), 1), "no process died, so each task runs exactly once"


def play(world: World, choose: Choose, *, tasks: int, steps: int) -> None:
    for _ in range(steps):
        world.step(choose)
    world.settle()
    world.check(tasks)


@given(st.data(), st.integers(1, 4), st.integers(0, 60))
@settings(max_examples=300)
def test_every_loss_heals(data: st.DataObject, tasks: int, steps: int) -> None:
    numbers = data.draw(st.lists(st.integers(0, 9), min_size=2 * steps, max_size=2 * steps))
    supply = iter(numbers)
    play(World(tasks), lambda n: next(supply) % n, tasks=tasks, steps=steps)


@pytest.mark.parametrize("seed", range(4))
def test_many_long_lives_heal(seed: int) -> None:
    for number in range(seed, 800, 4):
        chance = random.Random(number)
        try:
            play(World(6), chance.randrange, tasks=6, steps=200)
        except AssertionError as error:
            raise AssertionError(f"seed {number}: {error}") from error


class ForgetsRuns(ControllerLink):
    def to_resend(self, hello: Hello) -> list[Message]:
        return [message for message in super().to_resend(hello) if not isinstance(message, Run)]


class ForgetsGo(ControllerLink):
    def to_resend(self, hello: Hello) -> list[Message]:
        return [message for message in super().to_resend(hello) if not isinstance(message, Go)]


class GivesNothingBack(ControllerLink):
    def given_back(self, hello: Hello) -> list[Recalled]:
        return []


class SaysAllRunsAgain(ControllerLink):
    def to_resend(self, hello: Hello) -> list[Message]:
        return super().to_resend(Hello(life=1, pid=1, ticks=1, protocol=1, python=""))


class ForgetsResults(WorkerLink):
    def to_resend(self) -> list[Message]:
        return [message for message in super().to_resend() if not isinstance(message, Done)]


class ForgetsStarted(WorkerLink):
    def to_resend(self) -> list[Message]:
        return [message for message in super().to_resend() if not isinstance(message, Started)]


class KeepsForEver(WorkerLink):
    def received(self, message: Message) -> None:
        pass


@pytest.mark.parametrize(
    "broken", [ForgetsRuns, ForgetsGo, GivesNothingBack, SaysAllRunsAgain, ForgetsResults, ForgetsStarted, KeepsForEver]
)
def test_the_world_notices_a_broken_rule(broken: type[ControllerLink | WorkerLink]) -> None:
    """Each rule left out must fail the same world: otherwise the tests above prove nothing."""

    class Broken(World):
        link_type = broken if issubclass(broken, ControllerLink) else ControllerLink
        worker_link_type = broken if issubclass(broken, WorkerLink) else WorkerLink

    with pytest.raises(AssertionError):
        for seed in range(200):
            play(Broken(6), random.Random(seed).randrange, tasks=6, steps=200)
