"""Assignment lifecycle: the same steps, hooks and events at the begin and end of assignments for every reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.lifecycle import DrainFinished
from drakkar_flow.observe.events.source import PartitionsAssigned, PartitionsRevoked
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.buffers import Buffers, Partition

__all__ = ["AssignmentLifecycle"]


class AssignmentLifecycle:
    """Begins and ends assignments of partitions. Its methods are called by the reader's thread."""

    def __init__(self, buffers: Buffers, in_flight: InFlight, bus: Bus, hooks: AssignmentHooks) -> None:
        self._buffers = buffers
        self._in_flight = in_flight
        self._bus = bus
        self._hooks = hooks

    def begin(
        self, topic_partitions: Iterable[TopicPartition], known: Mapping[TopicPartition, tuple[int, OffsetRanges]]
    ) -> None:
        """Begin assignments, with the committed offset and the offsets finished beyond it where they are known."""
        topic_partitions = tuple(topic_partitions)
        self._buffers.assign(topic_partitions, known)
        self._bus.emit(PartitionsAssigned(topic_partitions, len(self._buffers)))
        self._hooks.assigned(topic_partitions)

    def end(
        self,
        topic_partitions: Iterable[TopicPartition],
        last_commit: Callable[[list[Partition]], None],
        *,
        drain_s: float | None,
        hook_s: float,
        before_fence: Callable[[list[Partition]], None] | None = None,
    ) -> int:
        """End assignments in order; returns the number of unfinished records.

        Buffered records are dropped. Records in flight may finish within `drain_s` seconds (None: the flow has drained
        already). Then `before_fence` runs, the others are fenced, `last_commit` runs, and `on_revoke` until `hook_s`
        seconds have passed in all.
        """
        started = time.monotonic()
        partitions = self._buffers.take_away(topic_partitions)
        taken = dict(partition.assignment for partition in partitions)
        unfinished = self._in_flight.wait_idle(taken.items(), drain_s or 0.0)
        oldest = self._in_flight.oldest(taken) if unfinished else ()
        if before_fence is not None:
            before_fence(partitions)
        self._in_flight.fence(taken.items())
        last_commit(partitions)
        self._hooks.revoked(taken, started + hook_s)
        if drain_s is not None:
            self._bus.emit(DrainFinished(unfinished, time.monotonic() - started, oldest=oldest))
        self._bus.emit(PartitionsRevoked(tuple(taken), len(self._buffers), unfinished=unfinished))
        return unfinished

    def lose(self, topic_partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Fence lost partitions at once, without waiting for `on_revoke`; returns those that were ours."""
        taken = dict(partition.assignment for partition in self._buffers.take_away(topic_partitions))
        self._in_flight.fence(taken.items())
        self._hooks.revoked(taken)
        self._bus.emit(PartitionsRevoked(tuple(taken), len(self._buffers), lost=True))
        return list(taken)
