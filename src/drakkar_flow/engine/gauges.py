"""Gauges of a running flow, read from its components at each scrape."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping

from drakkar_flow.engine.offload import OffloadPool
from drakkar_flow.executor.base import Executor
from drakkar_flow.executor.named import NamedExecutors
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.runtime.components import Components

__all__ = ["read_gauges", "staleness"]


def read_gauges(components: Components, offload: OffloadPool | None, health: int) -> RuntimeGauges:
    """Return the current gauges; callable from any thread."""
    now = time.monotonic()
    in_flight, reader = components.in_flight.statistics(), components.reader.statistics()
    executor = components.executor.statistics() if components.executor is not None else None
    read_at = {
        topic_partition: at for topic_partition, (_, at) in in_flight.oldest.items() if topic_partition in reader.queued
    }
    return RuntimeGauges(
        in_flight_records=in_flight.records,
        guest_records=components.in_flight.guests,
        in_flight_bytes=in_flight.size,
        executor_running=executor.running if executor else 0,
        executor_waiting=executor.waiting if executor else 0,
        executor_slots=executor.slots if executor else 0,
        executors=_named(components.executor),
        offload_running=offload.running if offload else 0,
        offload_queued=offload.queued if offload else 0,
        health=health,
        queued=reader.queued,
        pending={
            topic_partition: in_flight.by_partition.get(topic_partition, 0) + queued
            for topic_partition, queued in reader.queued.items()
        },
        lag=reader.lag,
        ranges=reader.ranges,
        oldest_s={
            topic_partition: max(0.0, now - read_at.get(topic_partition, now)) for topic_partition in reader.queued
        },
        state=_state(components, reader.queued),
        stale_s=staleness(reader.queued, {**reader.oldest, **read_at}, in_flight.finished_at, now),
    )


def _state(components: Components, assigned: Container[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """Return keys and bytes of the state of each assigned partition; of each shard of a flow with state across them."""
    if components.shards is not None:
        return {each: (size.keys, size.size) for each, size in components.shards.ledgers.sizes().items()}
    ledgers = components.track.ledgers
    if ledgers is None:
        return {}
    return {each: (size.keys, size.size) for each, size in ledgers.sizes().items() if each in assigned}


def _named(executor: Executor | None) -> dict[str, tuple[int, int, int]]:
    """Return running and waiting tasks and slots of each named executor."""
    if not isinstance(executor, NamedExecutors):
        return {}
    return {name: (now.running, now.waiting, now.slots) for name, now in executor.by_name().items() if name}


def staleness(
    topic_partitions: Mapping[TopicPartition, object],
    waiting_since: Mapping[TopicPartition, float],
    finished_at: Mapping[TopicPartition, float],
    now: float,
) -> dict[TopicPartition, float]:
    """Return seconds since each partition last finished a record, or since its oldest was read if later; 0 if idle.

    >>> staleness({("in", 0): 1, ("in", 1): 1}, {("in", 0): 10.0}, {("in", 0): 25.0}, now=40.0)
    {('in', 0): 15.0, ('in', 1): 0.0}
    """
    return {
        topic_partition: max(
            0.0, now - max(waiting_since.get(topic_partition, now), finished_at.get(topic_partition, 0.0))
        )
        for topic_partition in topic_partitions
    }
