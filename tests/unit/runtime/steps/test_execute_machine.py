"""The execute step against a plain model: who runs, who waits and who is over, after any history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drakkar_flow.executor.base import Done, ExecutorStatistics, Running
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryPolicy
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.steps.execute import ExecuteSettings, ExecuteStep
from drakkar_flow.runtime.steps.task_order import keys_of
from drakkar_flow.runtime.steps.windows import TaskEnd, TaskRun, WindowRun
from support.steps import Alone, context_of

MAX_RETRIES = 2
TURNS = 4

partitions = st.integers(0, 1)
letters = st.sampled_from([b"a", b"b", None])
windows = st.lists(letters, min_size=1, max_size=5)
works_for = st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True)
picks = st.integers(0, 10**6)
answers = st.sampled_from(["retry", "skip", "dlq", "one", "two", "given"])


class Slots:
    """An executor whose programs end when they are told to."""

    def __init__(self) -> None:
        self.running: list[tuple[ExecutorTask, Done]] = []
        self.started: list[ExecutorTask] = []

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running | None:
        """Start it."""
        self.started.append(task)
        self.running.append((task, done))
        return None

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def statistics(self) -> ExecutorStatistics:
        """Not of interest."""
        return ExecutorStatistics(len(self.running), 0, 1)


class Lot:
    """A parking lot that is left when it is told."""

    def __init__(self) -> None:
        self.delayed: list[Callable[[], None]] = []

    def delay(self, delay_s: float, records: int, resume: Callable[[], None]) -> None:
        """Park."""
        self.delayed.append(resume)


class ExecuteMachine(RuleBasedStateMachine):
    """Windows of two partitions; tasks with one record or two; programs that succeed, fail, or are given up."""

    @initialize(ordering=st.sampled_from(["unordered", "key", "partition"]))
    def begin(self, ordering: Any) -> None:
        """Make a worker on a loop of its own."""
        self.loop = asyncio.new_event_loop()
        self.keys = keys_of(ordering)
        self.slots, self.lot, self.in_flight = Slots(), Lot(), InFlight(10**6, 10**6)
        retry = RetryPolicy(Backoff(1.0, 1.0), MAX_RETRIES)
        config = ExecuteSettings(retry, self.on_error, ErrorAction.SKIP, self.keys)
        lot: Any = self.lot
        slots: Any = self.slots
        context = context_of(self.in_flight)
        self.step = ExecuteStep(context, "execute", lot, slots, config)
        self.alone = Alone(self.step, context)
        self.offsets = [0, 0]
        self.made = 0
        self.answer = "skip"
        self.fenced: set[int] = set()
        self.waiting: dict[Any, list[str]] = {}  # ids of tasks by key, in the order they have to end
        self.keys_by_id: dict[str, list[Any]] = {}
        self.tries: dict[str, int] = {}
        self.open: set[str] = set()
        self.ended: dict[str, TaskEnd] = {}

    def teardown(self) -> None:
        """Let everything end: nobody is left behind."""
        while self.slots.running or self.lot.delayed:
            while self.lot.delayed:
                self.turn(self.lot.delayed.pop(0))
            while self.slots.running:
                task, done = self.slots.running.pop(0)
                self.turn(done, ExecutorResult(task=task))
        assert self.open == set()
        assert self.step.open == 0
        assert self.step.calls == []
        if self.step._order is not None:
            assert len(self.step._order._keyed_queue) == 0
        self.loop.close()

    # --- what happens ---------------------------------------------------------------------------

    @rule(partition=partitions, keys=windows, tasks=st.lists(works_for, min_size=1, max_size=6), given=st.booleans())
    def window(self, partition: int, keys: list[bytes | None], tasks: list[list[int]], given: bool) -> None:
        """A window comes in, its tasks listed in any order."""
        base = self.offsets[partition]
        self.offsets[partition] += len(keys)
        records = [Record("in", partition, base + n, key=key, epoch=0) for n, key in enumerate(keys)]
        window = WindowRun(records, 0.0, keep_messages=False)
        runs = []
        for number, places in enumerate(tasks):
            offsets = sorted({base + place % len(keys) for place in places})
            runs.append(window.attribute(self.task(offsets, given=given and number == 0)))
        for run in sorted(runs, key=lambda run: run.first_record.offset):
            self.expect(run.task.task_id, [key for group in run.in_progress for key in self.keys_of(group.record)])
        self.in_flight.add((("in", partition), 0), records)
        self.turn(self.alone.put, *runs, window)

    @precondition(lambda self: self.slots.running)
    @rule(pick=picks)
    def succeed(self, pick: int) -> None:
        """A program ends well."""
        task, done = self.slots.running.pop(pick % len(self.slots.running))
        self.turn(done, ExecutorResult(task=task))

    @precondition(lambda self: self.slots.running)
    @rule(pick=picks, answer=answers)
    def fail(self, pick: int, answer: str) -> None:
        """A program fails, and `on_error` answers."""
        task, done = self.slots.running.pop(pick % len(self.slots.running))
        self.answer = answer
        self.turn(done, ExecutorError(task=task, exit_code=1))

    @precondition(lambda self: self.slots.running)
    @rule(pick=picks)
    def give_up(self, pick: int) -> None:
        """The executor gives a task up, for it closes."""
        self.turn(self.slots.running.pop(pick % len(self.slots.running))[1], None)

    @precondition(lambda self: self.lot.delayed)
    @rule(pick=picks)
    def pause_over(self, pick: int) -> None:
        """A task may be tried again."""
        self.turn(self.lot.delayed.pop(pick % len(self.lot.delayed)))

    @rule(partition=partitions)
    def revoke(self, partition: int) -> None:
        """A partition is taken away; what of it has not started does not start any more."""
        self.fenced.add(partition)
        self.in_flight.fence([(("in", partition), 0)])

    # --- what has to hold -----------------------------------------------------------------------

    @invariant()
    def whoever_is_first_in_all_its_lines_is_at_work(self) -> None:
        """Runs or is parked, and nobody else does: neither overtaking nor starvation."""
        at_work = {task.task_id for task, _ in self.slots.running}
        at_work |= {resume.args[0].task.task_id for resume in self.lot.delayed}  # type: ignore[attr-defined]  # they are partials
        assert at_work == {one for one in self.open if self.is_first(one)}

    @invariant()
    def nobody_is_lost(self) -> None:
        """What has not ended is open, and the step knows."""
        assert self.step.open == len(self.open)
        assert {run.task.task_id for run in self.step._runs} == self.open

    # --- the model ------------------------------------------------------------------------------

    def task(self, offsets: list[int], *, given: bool = False) -> ExecutorTask:
        """A new task."""
        self.made += 1
        result = PrecomputedResult(stdout="given") if given else None
        return ExecutorTask(task_id=f"t{self.made}", source_offsets=offsets, precomputed=result)

    def keys_of(self, record: Record) -> list[Any]:
        """The keys of a record."""
        return [] if self.keys is None else list(self.keys(record))

    def expect(self, task_id: str, keys: list[Any], behind: str = "") -> None:
        """A task gets in line, at the end or right behind another."""
        self.open.add(task_id)
        self.keys_by_id[task_id] = keys = list(dict.fromkeys(keys))
        for key in keys:
            line = self.waiting.setdefault(key, [])
            line.insert(line.index(behind) + 1 if behind else len(line), task_id)

    def is_first(self, task_id: str) -> bool:
        """Whether nobody is before it."""
        return all(self.waiting[key][0] == task_id for key in self.keys_by_id[task_id])

    def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
        """Answer as the rule says; replacements take the place of their task."""
        if self.answer not in ("one", "two", "given"):
            return ErrorAction(self.answer)
        replacements = [self.task(task.source_offsets, given=self.answer == "given")]
        if self.answer == "two":
            replacements.append(self.task(task.source_offsets))
        for replacement in reversed(replacements):
            self.expect(replacement.task_id, self.keys_by_id[task.task_id], behind=task.task_id if self.keys else "")
        return replacements

    def turn(self, function: Callable[..., object], *args: Any) -> None:
        """Let something happen and the loop go round; then note who started and who is over."""
        self.loop.run_until_complete(self._turn(function, *args))
        for run in self.alone.take().items:
            if type(run) is TaskRun:
                self.over(run)
        for task in self.slots.started:
            self.tries[task.task_id] = self.tries.get(task.task_id, 0) + 1
            assert self.tries[task.task_id] <= 1 + MAX_RETRIES
        self.slots.started.clear()

    async def _turn(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def over(self, run: TaskRun) -> None:
        """A task ended for good: it was the first of each of its lines, and did not end before."""
        task_id = run.task.task_id
        assert run.ending is not None
        assert task_id not in self.ended
        assert self.is_first(task_id)
        if run.first_record.partition not in self.fenced and task_id not in self.tries:
            assert run.task.precomputed is not None or task_id in {task.task_id for task in self.slots.started}
        self.ended[task_id] = run.ending
        self.open.remove(task_id)
        for key in self.keys_by_id.pop(task_id):
            self.waiting[key].remove(task_id)


TestExecuteMachine = ExecuteMachine.TestCase
TestExecuteMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
