"""Property: whatever the steps, the fan-out and the failures, every record is accounted for exactly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drakkar_flow import DrakkarConfig, ErrorAction, ExecutorTask, KafkaPayload, StreamFlow, Window
from drakkar_flow.errors import BatchFailed, SinkError, SinkRejected
from drakkar_flow.testing import MemoryDeadLetters, MemorySink, ScriptedExecutor, run_flow

QUIET = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Model:
    """What a step does to a list of values: kept values, and how many dead letters."""

    def __init__(self, values: list[int]) -> None:
        self.values = values
        self.letters = 0

    def apply(self, function: Callable[[int], list[int]]) -> None:
        """Replace each value by several; an exception is a dead letter."""
        kept: list[int] = []
        for value in self.values:
            try:
                kept += function(value)
            except ValueError:
                self.letters += 1
        self.values = kept


@dataclass(frozen=True)
class Step:
    """A step with a divisor: values it divides are special, and it fails for every `fails`-th value."""

    kind: str
    divisor: int
    fails: int

    def of(self, value: int) -> list[int]:
        """What becomes of a value."""
        if self.fails and value % self.fails == self.fails - 1:
            raise ValueError(value)
        if self.kind == "filter":
            return [value] if value % self.divisor else []
        if self.kind == "flat_map":
            return [value + i for i in range(value % self.divisor)]
        return [value + self.divisor]

    def add_to(self, flow: StreamFlow) -> StreamFlow:
        """The step as a user writes it."""
        if self.kind == "map":
            return flow.map(lambda value: self.of(value)[0])
        if self.kind == "filter":
            return flow.filter(lambda value: bool(self.of(value)))
        if self.kind == "flat_map":
            return flow.flat_map(self.of)

        async def later(value: int) -> int:
            for _ in range(value % 3):
                await asyncio.sleep(0)
            return self.of(value)[0]

        return flow.map_async(later, max_in_flight=self.divisor)


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["map", "filter", "flat_map", "flat_map", "map_async"]),
        st.integers(1, 5),
        st.sampled_from([0, 0, 4, 7]),
    ),
    max_size=5,
)
troubles = st.lists(st.sampled_from(["", "down", "some", "none"]), max_size=12)


def flaky(plan: list[str]) -> Callable[[list[Any]], None]:
    """A sink that has trouble for a while and refuses payloads divisible by 11 for ever."""
    left = list(plan)

    def script(payloads: list[Any]) -> None:
        trouble = left.pop(0) if left else ""
        if trouble == "down":
            raise SinkError("down")
        failures: dict[int, Exception] = {
            index: SinkRejected("eleven") for index, payload in enumerate(payloads) if payload.data % 11 == 0
        }
        if trouble == "some":
            failures = {index: SinkError("some") for index in range(0, len(payloads), 2)} | failures
        if failures:
            raise BatchFailed(failures)

    return script


async def again(_error: Any) -> str:
    """Never give up what may be tried again."""
    return "retry"


@QUIET
@given(
    st.lists(st.one_of(st.integers(0, 40), st.just("junk")), max_size=40),
    steps,
    troubles,
    troubles,
    st.lists(st.booleans(), max_size=5),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 9),
)
def test_every_value_is_delivered_or_dead_and_every_offset_committed(
    values: list[int | str],
    chain: list[Step],
    one: list[str],
    other: list[str],
    letters_down: list[bool],
    partitions: int,
    workers: int,
    max_batch: int,
) -> None:
    """Random steps, fan-outs and failures: deliveries and dead letters are exact, commits reach the end."""
    flow = StreamFlow("random").decode(int)
    model = Model([value for value in values if isinstance(value, int)])
    model.letters = values.count("junk")
    for step in chain:
        flow = step.add_to(flow)
        model.apply(step.of)
    dead_letters = MemoryDeadLetters([OSError("down") if down else None for down in letters_down])
    sinks = [
        MemorySink("a", script=flaky(one), max_batch=max_batch),
        MemorySink("b", script=flaky(other), max_in_flight=3, max_batch=max_batch),
    ]
    outcome = run_flow(
        flow.route(on_delivery_error=again),
        values,
        sinks=sinks,
        dead_letters=dead_letters,
        partitions=partitions,
        config=DrakkarConfig(runtime={"workers": workers}),
    )
    expected = Counter(value for value in model.values if value % 11)
    for sink in sinks:
        assert Counter(sink.values) == expected
    refused = sum(value % 11 == 0 for value in model.values)
    assert len(outcome.dead_letters) == model.letters + 2 * refused
    ends = {
        ("input", topic_partition): len(values[topic_partition::partitions]) for topic_partition in range(partitions)
    }
    assert outcome.committed == {topic_partition: end for topic_partition, end in ends.items() if end}
    assert outcome.failure is None


@dataclass(frozen=True)
class Plan:
    """One task: which records of the window it is for (by place), and how its attempts end."""

    places: tuple[int, ...]
    attempts: tuple[int, ...]
    action: str


plans = st.lists(
    st.builds(
        Plan,
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
        st.lists(st.sampled_from([0, 1]), min_size=1, max_size=3).map(tuple),
        st.sampled_from(["skip", "dlq", "retry", "replace"]),
    ),
    max_size=5,
)


class RandomHandler:
    """Makes the tasks of the plans, ends them as planned, and knows what must come of it."""

    def __init__(self, windows: list[list[Plan]]) -> None:
        self.windows = windows
        self.made: dict[str, Plan] = {}
        self.attempts: Counter[str] = Counter()
        self.completed: Counter[int] = Counter()
        self.window_ends: Counter[int] = Counter()

    def flow(self, size: int, *, hooks: bool) -> StreamFlow:
        """The flow, with or without hooks for records and windows."""
        return (
            StreamFlow("random")
            .arrange(self.arrange, window=Window(size=size))
            .execute(on_error=self.on_error)
            .collect(
                lambda result: KafkaPayload(data=result.task.task_id),
                on_message_complete=self.on_message if hooks else None,
                on_window_complete=self.on_window if hooks else None,
            )
            .route(on_delivery_error=again)
        )

    def arrange(self, records: list[Any], pending: Any) -> list[ExecutorTask]:
        """The tasks of the window's plans."""
        tasks = []
        for number, plan in enumerate(self.windows[records[0].offset % len(self.windows)]):
            task_id = f"{records[0].offset}-{number}"
            self.made[task_id] = plan
            offsets = [records[place].offset for place in plan.places if place < len(records)]
            tasks.append(ExecutorTask(task_id=task_id, source_offsets=offsets))
        return tasks

    def on_error(self, task: ExecutorTask, _error: Any) -> Any:
        """What the plan says; replacements that fail are skipped."""
        if task.parent_task_id is not None:
            return ErrorAction.SKIP
        plan = self.made[task.task_id]
        if plan.action == "replace":
            return [ExecutorTask(task_id=f"{task.task_id}+{i}", source_offsets=task.source_offsets) for i in range(2)]
        return plan.action

    def ending(self, task: ExecutorTask) -> int:
        """The exit code of an attempt; of two replacements the second fails."""
        if task.parent_task_id is not None:
            return int(task.task_id.endswith("+1"))
        plan = self.made[task.task_id]
        self.attempts[task.task_id] += 1
        return plan.attempts[min(self.attempts[task.task_id], len(plan.attempts)) - 1]

    async def on_message(self, group: Any) -> None:
        """Note a finished record."""
        await asyncio.sleep(0)
        self.completed[group.source_message.offset] += 1

    async def on_window(self, _results: Any, records: Any) -> None:
        """Note a finished window."""
        self.window_ends[records[0].offset] += 1

    def expected(self) -> tuple[list[str], int]:
        """The payloads that must be delivered, and how many dead letters there must be."""
        payloads: list[str] = []
        letters = 0
        for task_id, plan in self.made.items():
            attempts = plan.attempts if plan.action == "retry" else plan.attempts[:1]
            if 0 in attempts:
                payloads.append(task_id)
            elif plan.action == "replace":
                payloads.append(f"{task_id}+0")
            letters += 0 not in attempts and plan.action == "dlq"
        return sorted(payloads), letters


def sometimes_down(plan: list[str]) -> Callable[[list[Any]], None]:
    """A sink that is down as planned and then works."""
    left = list(plan)

    def script(_payloads: list[Any]) -> None:
        if left and left.pop(0) == "down":
            raise SinkError("down")

    return script


@QUIET
@given(st.integers(0, 30), st.lists(plans, min_size=1, max_size=4), st.integers(1, 6), st.booleans(), troubles)
def test_every_task_of_a_random_handler_ends_once_and_every_offset_is_committed(
    count: int, windows: list[list[Plan]], size: int, hooks: bool, trouble: list[str]
) -> None:
    """Random windows of random tasks: payloads, dead letters and hooks are exact, commits reach the end."""
    handler = RandomHandler(windows)
    sink = MemorySink(script=sometimes_down(trouble))
    flow = handler.flow(size, hooks=hooks)
    outcome = run_flow(flow, range(count), executor=ScriptedExecutor(handler.ending), sinks=[sink])
    payloads, letters = handler.expected()
    assert sorted(outcome.values) == payloads
    assert len(outcome.dead_letters) == letters
    assert outcome.committed == ({("input", 0): count} if count else {})
    if hooks:
        assert handler.completed == dict.fromkeys(range(count), 1)
        assert handler.window_ends == dict.fromkeys({int(task_id.split("-")[0]) for task_id in handler.made}, 1)
