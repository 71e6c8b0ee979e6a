"""A partition that is taken while its records are in flight: the same on the kit and on a real consumer group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer

from drakkar_flow import ExecutorTask, Handler, KafkaPayload, PendingContext
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.lifecycle import DrainFinished
from drakkar_flow.observe.events.source import PartitionsRevoked
from drakkar_flow.observe.events.tasks import TasksStarted
from support.kafka_io import MakeTopic
from support.runtimes import KafkaRuntime, KitRuntime
from support.until import until


class Slow(Handler[str, str]):
    """Each record is a task of a second."""

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        script = ["-c", "sleep 1; cat"]
        return [
            ExecutorTask(task_id=f"{m.partition}:{m.offset}", source_offsets=[m.offset], args=script, stdin=m.payload)
            for m in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        return KafkaPayload(data=result.stdout)


class Kit(KitRuntime):
    """The kit, and how it takes a partition away."""

    def take_one(self) -> int:
        self.kit.revoke(1, drain_s=20.0)
        return 1


class RecordProgress(KafkaRuntime):
    """A worker, from whom a second member of the group takes one of two partitions."""

    def take_one(self) -> int:
        settings = {"bootstrap.servers": self._bootstrap, "group.id": self._group, "enable.auto.commit": False}
        self.other = Consumer(settings | {"partition.assignment.strategy": "cooperative-sticky"})
        self.other.subscribe([self._source])
        until(lambda: self.other.poll(0.1) is not None or self.other.assignment(), 30, "the other member's partition")
        (taken,) = self.other.assignment()
        return taken.partition

    def close(self) -> None:
        self.other.close()
        super().close()


@pytest.fixture(params=["kit", pytest.param("kafka", marks=pytest.mark.integration)])
def runtime(request: pytest.FixtureRequest) -> Iterator[Kit | RecordProgress]:
    """A runtime with two partitions; the worker commits by itself only at the end."""
    settings = {"executor": {"binary_path": "sh", "max_executors": 4}}
    made: Kit | RecordProgress
    if request.param == "kit":
        made = Kit(settings, 2)
    else:
        make_topic: MakeTopic = request.getfixturevalue("make_topic")
        topics = make_topic(2), make_topic(1), make_topic(1)
        made = RecordProgress(request.getfixturevalue("kafka").bootstrap, *topics, settings)
    made.start(Slow())
    yield made
    made.close()


def of(runtime: Kit | RecordProgress, kind: type[Any]) -> Callable[[], list[Any]]:
    """Looks for the events of a kind."""
    return lambda: [event for event in runtime.events if isinstance(event, kind)]


def test_g12_work_that_ends_while_its_partition_is_taken_is_delivered_and_committed(
    runtime: Kit | RecordProgress,
) -> None:
    """Within the drain budget; nothing is left to the next owner."""
    for partition in range(2):
        runtime.send("a", "b", partition=partition)
    until(lambda: sum(event.count for event in of(runtime, TasksStarted)()) == 4, 30, "four tasks to run")
    taken = runtime.take_one()
    until(lambda: len(runtime.values) == 4, 30, "all outputs")
    assert runtime.committed[taken] == 2
    (revoked,) = of(runtime, PartitionsRevoked)()
    assert (revoked.unfinished, revoked.lost, [number for _, number in revoked.topic_partitions]) == (0, False, [taken])
    assert [event.unfinished for event in of(runtime, DrainFinished)()] == [0]
