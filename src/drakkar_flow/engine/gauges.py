"""Gauges of a running flow, read from its parts when metrics are asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping

from drakkar_flow.engine.offload import OffloadPool
from drakkar_flow.executor.base import Executor
from drakkar_flow.executor.named import NamedExecutors
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.runtime.parts import Parts

__all__ = ["read_gauges", "staleness"]


def read_gauges(parts: Parts, offload: OffloadPool | None, health: int) -> RuntimeGauges:
    """The gauges as they stand now; may be called from any thread."""
    now = time.monotonic()
    flight, reader = parts.flight.statistics(), parts.reader.statistics()
    executor = parts.executor.statistics() if parts.executor is not None else None
    read_at = {lane: at for lane, (_, at) in flight.oldest.items() if lane in reader.queued}
    return RuntimeGauges(
        in_flight_records=flight.records,
        in_flight_bytes=flight.size,
        executor_running=executor.running if executor else 0,
        executor_waiting=executor.waiting if executor else 0,
        executor_slots=executor.slots if executor else 0,
        executors=_named(parts.executor),
        offload_running=offload.running if offload else 0,
        offload_queued=offload.queued if offload else 0,
        health=health,
        queued=reader.queued,
        pending={lane: flight.by_lane.get(lane, 0) + queued for lane, queued in reader.queued.items()},
        lag=reader.lag,
        spans=reader.spans,
        oldest_s={lane: max(0.0, now - read_at.get(lane, now)) for lane in reader.queued},
        stale_s=staleness(reader.queued, {**reader.oldest, **read_at}, flight.finished_at, now),
    )


def _named(executor: Executor | None) -> dict[str, tuple[int, int, int]]:
    """What runs and waits in each executor that has a name, and its slots."""
    if not isinstance(executor, NamedExecutors):
        return {}
    return {name: (now.running, now.waiting, now.slots) for name, now in executor.by_name().items() if name}


def staleness(
    lanes: Mapping[Lane, object], waiting_since: Mapping[Lane, float], finished_at: Mapping[Lane, float], now: float
) -> dict[Lane, float]:
    """Seconds since each lane last finished a record, or since its oldest came if that is later; 0 where none waits.

    >>> staleness({("in", 0): 1, ("in", 1): 1}, {("in", 0): 10.0}, {("in", 0): 25.0}, now=40.0)
    {('in', 0): 15.0, ('in', 1): 0.0}
    """
    return {lane: max(0.0, now - max(waiting_since.get(lane, now), finished_at.get(lane, 0.0))) for lane in lanes}
