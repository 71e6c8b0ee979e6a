"""Assignments that begin and end: the same steps, hooks and events for every reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from drakkar_flow.kernel.spans import Spans
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.lifecycle import DrainFinished
from drakkar_flow.observe.events.source import PartitionsAssigned, PartitionsRevoked
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.buffers import Buffers, Partition

__all__ = ["Handover"]


class Handover:
    """Begins and ends assignments of partitions. Its methods are called by the reader's thread."""

    def __init__(self, buffers: Buffers, flight: Flight, bus: Bus, hooks: AssignmentHooks) -> None:
        self._buffers = buffers
        self._flight = flight
        self._bus = bus
        self._hooks = hooks

    def begin(self, lanes: Iterable[Lane], known: Mapping[Lane, tuple[int, Spans]]) -> None:
        """Begin assignments, where known with the committed offset and what is finished beyond it."""
        lanes = tuple(lanes)
        self._buffers.assign(lanes, known)
        self._bus.emit(PartitionsAssigned(lanes, len(self._buffers)))
        self._hooks.assigned(lanes)

    def end(
        self,
        lanes: Iterable[Lane],
        last_commit: Callable[[list[Partition]], None],
        *,
        drain_s: float | None,
        hook_s: float,
    ) -> int:
        """End assignments in order; returns how many records had not finished.

        What is buffered is dropped, what is in flight may finish within `drain_s` seconds (None: the flow
        has drained already), the rest is fenced; then come `last_commit` and, until `hook_s` seconds have
        passed in all, `on_revoke`.
        """
        started = time.monotonic()
        partitions = self._buffers.take_away(lanes)
        taken = dict(partition.assignment for partition in partitions)
        unfinished = self._flight.wait_idle(taken.items(), drain_s or 0.0)
        oldest = self._flight.oldest(taken) if unfinished else ()
        self._flight.fence(taken.items())
        last_commit(partitions)
        self._hooks.revoked(taken, started + hook_s)
        if drain_s is not None:
            self._bus.emit(DrainFinished(unfinished, time.monotonic() - started, oldest=oldest))
        self._bus.emit(PartitionsRevoked(tuple(taken), len(self._buffers), unfinished=unfinished))
        return unfinished

    def lose(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Fence at once what somebody else owns already; `on_revoke` is not waited for. Returns what was ours."""
        taken = dict(partition.assignment for partition in self._buffers.take_away(lanes))
        self._flight.fence(taken.items())
        self._hooks.revoked(taken)
        self._bus.emit(PartitionsRevoked(tuple(taken), len(self._buffers), lost=True))
        return list(taken)
