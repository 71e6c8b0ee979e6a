"""The cache in flows and handlers: `self.cache`, `cache=`, and tasks that are answered from it."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import (
    BaseDrakkarHandler,
    Cache,
    CachedExecute,
    CacheScope,
    CollectResult,
    ExecutorResult,
    ExecutorTask,
    KafkaPayload,
    PendingContext,
    PrecomputedResult,
    Record,
    StreamFlow,
    Subprocess,
)
from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.errors import FlowError
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.tasks import TasksPrecomputed
from drakkar_flow.runtime.steps.result_cache import ResultCache
from drakkar_flow.testing import FlowHarness


class Lookup(BaseDrakkarHandler[str, Any]):
    """Remembers what it has seen."""

    async def on_ready(self, config: Any, db_pool: Any) -> None:
        """The cache is there."""
        self.cache.set("ready", True, scope=CacheScope.MEMORY)

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        """Tasks of parts that were seen before need no program."""
        tasks = []
        for message in messages:
            known = await self.cache.get(message.payload or "")
            given = None if known is None else PrecomputedResult(stdout=known)
            tasks.append(message.task(args=[message.payload], precomputed=given))
        return tasks

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """Remember the result for a minute."""
        self.cache.set(result.task.args[0], result.stdout, ttl=60)
        return CollectResult(kafka=[KafkaPayload(data=[result.stdout, result.task.precomputed is not None])])


def sent(kit: FlowHarness, *values: str) -> list[Any]:
    """Send values one after the other; returns all results."""
    for value in values:
        kit.send(value)
        kit.wait_acknowledged()
    return kit.values


def test_a_handler_has_the_cache_of_its_worker() -> None:
    handler = Lookup()
    with FlowHarness(handler) as kit:
        kit.executor.on(args=["a"]).gives("A")
        assert sent(kit, "a", "a") == [["A", False], ["A", True]]
        assert kit.cache.peek("ready") is True
        kit.clock.advance(61)
        assert sent(kit, "a")[-1] == ["A", False]
    assert handler.cache.peek("a") is None, "after the flow it stores nothing"


def test_the_cache_outlives_a_crash_but_for_the_scope_memory() -> None:
    with FlowHarness(Lookup()) as kit:
        kit.executor.on(args=["a"]).gives("A")
        sent(kit, "a")
        kit.cache.set("of this run", 1, scope=CacheScope.MEMORY)
        kit.crash()
        kit.restart()
        assert sent(kit, "a")[-1] == ["A", True]
        assert kit.cache.peek("of this run") is None


def test_a_cache_that_is_switched_off_stores_nothing() -> None:
    with FlowHarness(Lookup(), config={"cache": {"enabled": False}}) as kit:
        kit.executor.on(args=["a"]).gives("A")
        assert sent(kit, "a", "a") == [["A", False], ["A", False]]


def test_a_cache_that_a_handler_sets_itself_is_left_alone() -> None:
    handler, mine = Lookup(), Cache()
    handler.cache = mine
    with FlowHarness(handler) as kit:
        sent(kit, "a")
        assert handler.cache is mine
        assert "ready" not in kit.cache


def test_functions_of_a_flow_use_the_cache_that_the_flow_names() -> None:
    cache = Cache()

    async def doubled(number: int) -> list[Any]:
        known = await cache.get(f"n{number}")
        if known is not None:
            return ["cached", known]
        cache.set(f"n{number}", 2 * number, ttl=10)
        return ["computed", 2 * number]

    with FlowHarness(StreamFlow("double", cache=cache).decode(int).map_async(doubled).route()) as kit:
        for number in (1, 1):
            kit.send(number)
            kit.wait_acknowledged()
        assert "n1" in cache
        assert cache.delete("n1") is True
        kit.send(1)
        kit.wait_acknowledged()
        assert kit.values == [["computed", 2], ["cached", 2], ["computed", 2]]
    assert "n1" not in cache


# --- cached_execute ----------------------------------------------------------------------------------


def ending(result: ExecutorResult) -> KafkaPayload:
    """The output, and whether a program ran."""
    return KafkaPayload(data=[result.stdout_bytes.decode("latin-1"), result.task.precomputed is not None])


def pieces(rule: CachedExecute, **options: Any) -> StreamFlow:
    """A flow with a task per record, whose results are cached."""
    return (
        StreamFlow("pieces")
        .decode(str)
        .arrange(lambda records, _: [record.task(stdin=record.payload) for record in records])
        .execute(Subprocess("tool"), cached=rule, **options)
        .collect(ending)
        .route()
    )


def test_an_equal_task_is_answered_without_a_program() -> None:
    with FlowHarness(pieces(CachedExecute(ttl_s=60))) as kit:
        kit.executor.on(stdin="a").gives("A")
        kit.executor.on(stdin="b").gives(b"\xff")
        for value in "aabb":
            kit.send(value)
            kit.wait_acknowledged()
        assert kit.values == [["A", False], ["A", True], ["\xff", False], ["\xff", True]]
        assert sum(event.count for event in kit.of(TasksPrecomputed)) == 2
        kit.clock.advance(61)
        kit.send("a")
        kit.wait_acknowledged()
        assert kit.values[-1] == ["A", False]


class Sized(BaseDrakkarHandler[str, Any]):
    """A handler whose results are cached."""

    cached_execute = CachedExecute()

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        """A task per record."""
        return [message.task(args=[message.payload]) for message in messages]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """Whether a program ran."""
        return KafkaPayload(data=result.task.precomputed is not None)


def test_a_handler_says_it_in_one_line() -> None:
    with FlowHarness(Sized()) as kit:
        assert sent(kit, "a", "b", "a") == [False, False, True]


@pytest.mark.parametrize("other", [{"args": ["x"]}, {"env": {"A": "1"}}, {"stdin": b"a"}, {"binary_path": "/other"}])
def test_a_task_that_differs_in_anything_runs(other: dict[str, Any]) -> None:
    tasks = iter([{"stdin": "a"}, {"stdin": "a", **other}, {"stdin": "a"}])
    flow = (
        StreamFlow("pieces")
        .arrange(lambda records, _: [record.task(**next(tasks)) for record in records])
        .execute(Subprocess("tool"), cached=CachedExecute())
        .collect(ending)
        .route()
    )
    with FlowHarness(flow) as kit:
        for _ in range(3):
            kit.send(b"")
            kit.wait_acknowledged()
        assert [cached for _, cached in kit.values] == [False, False, True]


def test_failures_are_not_cached() -> None:
    with FlowHarness(pieces(CachedExecute()), config={"executor": {"max_retries": 0}}) as kit:
        kit.executor.on(stdin="a").gives(3)
        for _ in range(2):
            kit.send("a")
            kit.wait_acknowledged()
        assert (kit.values, kit.of(TasksPrecomputed)) == ([], [])


def test_a_key_of_the_user_decides_and_none_leaves_the_task_out() -> None:
    rule = CachedExecute(key=lambda task: None if task.stdin == "never" else "same")
    with FlowHarness(pieces(rule)) as kit:
        kit.executor.on().gives("A")
        for value in ("a", "b", "never", "never"):
            kit.send(value)
            kit.wait_acknowledged()
        assert [cached for _, cached in kit.values] == [False, True, False, False]


def test_a_key_that_raises_costs_the_cache_not_the_record() -> None:
    with FlowHarness(pieces(CachedExecute(key=lambda task: task.metadata["missing"]))) as kit:
        kit.executor.on().gives("A")
        kit.send("a")
        kit.wait_acknowledged()
        assert kit.values == [["A", False]]
        assert [event.error for event in kit.of(HookRan, hook="cached_execute")]


def test_order_is_kept_when_some_tasks_are_cached() -> None:
    with FlowHarness(pieces(CachedExecute(), ordering="partition")) as kit:
        for value in "abc":
            kit.executor.on(stdin=value).gives(value)
        kit.send_all("aba")
        kit.wait_acknowledged()
        kit.send_all("cabca")
        kit.wait_acknowledged()
        assert [text for text, _ in kit.values] == list("abacabca")


def test_a_rule_with_a_mistake_is_refused() -> None:
    wrong: Any = {"ttl_s": -1, "scope": "planet", "key": 3}
    with pytest.raises(FlowError, match=r"(?s)ttl_s is -1.*scope is 'planet'.*key is 3") as raised:
        CachedExecute(**wrong)
    assert len(raised.value.problems) == 3


def test_lookups_of_tasks_count_as_hits_and_misses() -> None:
    with FlowHarness(Sized()) as kit:
        sent(kit, "a", "b", "a")
        used = kit.cache.usage()
        assert (used.hits_memory, used.misses, used.writes) == (1, 2, (("local", 2),))


def test_a_result_that_was_cut_is_not_stored() -> None:
    cache = WorkerCache("w", Bus())
    results = ResultCache(cache, CachedExecute(), {})
    task = ExecutorTask(task_id="t", source_offsets=[0])
    for key, cut in (("whole", False), ("cut", True)):
        results.store(key, ExecutorResult(task=task, stdout="x", stdout_truncated=cut))
    assert (results.hit("whole"), results.hit("cut")) == (PrecomputedResult(stdout="x"), None)
