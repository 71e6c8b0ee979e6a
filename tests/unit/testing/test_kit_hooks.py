"""The hooks of a handler's life are called in the kit as by the real runtime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import ExecutorTask, Handler, KafkaPayload, PendingContext, PrecomputedResult, StreamFlow, periodic
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.errors import StartupError
from drakkar_flow.model.assignment import AssignedPartition
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.testing import FlowHarness


class Noting(Handler[str, str]):
    """Notes what is called, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
        self.told.append("startup")
        return config

    async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
        self.told.append("ready")

    async def on_assign(self, partitions: list[AssignedPartition]) -> None:
        self.told.append(f"assign {sorted(map(int, partitions))}")

    async def on_revoke(self, partitions: list[AssignedPartition]) -> None:
        self.told.append(f"revoke {sorted(map(int, partitions))}")

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        self.told += [f"arrange {message.payload}" for message in messages]
        answer = PrecomputedResult()
        return [ExecutorTask(task_id=m.payload, source_offsets=[m.offset], precomputed=answer) for m in messages]


def test_a_life_begins_with_startup_ready_and_assign_and_ends_with_revoke() -> None:
    """In this order; partitions that go and come in between are told too."""
    handler = Noting()
    with FlowHarness(handler, partitions=2) as kit:
        kit.send("x")
        kit.wait_acknowledged()
        kit.revoke(1)
        kit.assign(1)
        kit.wait_for(lambda: handler.told[-1] == "assign [1]")
        kit.stop()
        assert handler.told == [
            "startup",
            "ready",
            "assign [0, 1]",
            "arrange x",
            "revoke [1]",
            "assign [1]",
            "revoke [0, 1]",
        ]


def test_a_crash_tells_no_hook_and_the_next_life_begins_anew() -> None:
    """As with a process that is killed."""
    handler = Noting()
    with FlowHarness(handler) as kit:
        kit.wait_for(lambda: handler.told[-1:] == ["assign [0]"])
        kit.crash()
        assert handler.told == ["startup", "ready", "assign [0]"]
        kit.restart()
        kit.send("x")
        kit.wait_acknowledged()
        assert handler.told[3:] == ["startup", "ready", "assign [0]", "arrange x"]


def test_what_on_startup_makes_of_the_configuration_counts() -> None:
    """The windows are of the size it sets."""

    class Small(Noting):
        async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
            return config.replaced(executor=config.executor.model_copy(update={"window_size": 1}))

        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            self.told.append(len(messages))
            return []

    handler = Small()
    with FlowHarness(handler, config={"executor": {"window_size": 50, "window_linger_s": 5}}) as kit:
        kit.send_all("abc")
        kit.wait_acknowledged()
    assert handler.told.count(1) == 3


def test_a_start_that_fails_is_told_and_leaves_nothing_behind() -> None:
    """With the hook's name, as at the command line."""

    class Failing(Noting):
        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            raise ValueError("no model file")

    with pytest.raises(StartupError, match=r"Failing.on_ready: raised ValueError: no model file"):
        FlowHarness(Failing()).restart()


def test_periodic_functions_run_on_the_clock_that_the_test_moves() -> None:
    """One interval after the other, and no more of them than time passes."""

    class Ticking(Noting):
        @periodic(seconds=60)
        async def tick(self) -> None:
            self.told.append("tick")

    handler = Ticking()
    with FlowHarness(handler) as kit:
        kit.clock.advance(59)
        assert handler.told.count("tick") == 0
        kit.clock.advance(1)
        assert handler.told.count("tick") == 1
        kit.clock.advance(600)
        assert handler.told.count("tick") == 11


def test_offloaded_work_holds_the_clock() -> None:
    """It takes real time, in which nothing falls due."""

    class Computing(Noting):
        async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
            await self.offload(time.sleep, 0.05)
            return KafkaPayload(data=result.task.task_id)

        @periodic(seconds=1)
        async def tick(self) -> None:
            self.told.append("tick")

    handler = Computing()
    with FlowHarness(handler) as kit:
        kit.send("x")
        kit.wait_for(lambda: kit.values)
        assert handler.told.count("tick") == 0


@pytest.mark.parametrize("style", ["handler", "flow"])
def test_f21_what_on_startup_changes_in_place_counts_in_the_kit_too(style: str, tmp_path: Path) -> None:
    """Environment of real programs, bounds, and sinks that it adds or takes away."""

    def on_startup(config: DrakkarConfig) -> DrakkarConfig:
        config.executor.env["X"] = "1"
        config.executor.binary_path = "/bin/sh"  # type: ignore[misc]  # an opened copy takes assignments
        config.runtime.max_in_flight_records = 7  # type: ignore[misc]  # an opened copy takes assignments
        config.sinks.kafka["late"] = KafkaSinkConfig(topic="t")
        del config.sinks.kafka["early"]
        return config

    def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id="t", source_offsets=[r.offset], args=["-c", "echo $X"]) for r in records]

    class Changing(Handler):
        def on_startup(self, config: DrakkarConfig) -> Any:
            return on_startup(config)

        def arrange(self, messages: list[Record], pending: PendingContext) -> Any:
            return arrange(messages, pending)

        def on_task_complete(self, result: ExecutorResult) -> Any:
            return KafkaPayload(data=result.stdout)

    steps = StreamFlow("changing").arrange(arrange).execute().collect(lambda result: KafkaPayload(data=result.stdout))
    flow = Changing() if style == "handler" else steps.route().with_hooks(on_startup=on_startup)
    config = {"sinks": {"kafka": {"early": {"topic": "e"}}}}
    with FlowHarness(flow, config=config, real_programs=True) as kit:
        kit.send("a")
        kit.wait_acknowledged()
        assert [payload.data for payload in kit.deliveries["kafka-late"]] == ["1\n"]
        assert "kafka-early" not in kit.deliveries
