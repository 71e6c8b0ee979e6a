"""Ledgers of one process, by topic partition: each belongs to the newest assignment of its partition."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

from drakkar_flow.kernel.ledger import Ledger
from drakkar_flow.kernel.partition_row import StateKey, StateTables
from drakkar_flow.model.record import TopicPartition

__all__ = ["Ledgers", "StateSize"]


class StateSize(NamedTuple):
    """Size of a partition's final state, and the number of records whose changes are not final."""

    keys: int
    size: int
    waiting: int


class _Assigned:
    __slots__ = ("epoch", "fenced", "ledger")

    def __init__(self, ledger: Ledger, epoch: int, *, fenced: bool = False) -> None:
        self.ledger = ledger
        self.epoch = epoch
        self.fenced = fenced


class Ledgers:
    """Used by the engine's threads (steps and tracker) and by the loop's thread (hooks).

    Hold `lock` around `at` and the use of the ledger it returns, for a chunk or a hook at a time and never while code
    of the user runs. The other methods take the lock themselves.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._assigned: dict[TopicPartition, _Assigned] = {}

    def at(self, topic_partition: TopicPartition, epoch: int) -> Ledger | None:
        """Return the ledger of an assignment; None if the assignment is fenced or a newer one has begun.

        A newer assignment begins with the final values; unfinished changes of the older one are dropped, for their
        records are read again.
        """
        assigned = self._assigned.get(topic_partition)
        if assigned is None:
            assigned = self._assigned[topic_partition] = _Assigned(Ledger(), epoch)
        elif epoch > assigned.epoch:
            assigned.ledger.clear_unfinished()
            assigned.epoch = epoch
            assigned.fenced = False
        elif epoch < assigned.epoch or assigned.fenced:
            return None
        return assigned.ledger

    def fence(self, topic_partition: TopicPartition, epoch: int) -> None:
        """End an assignment: its unfinished changes are dropped, and it changes nothing any more."""
        with self.lock:
            if (ledger := self.at(topic_partition, epoch)) is not None:
                ledger.clear_unfinished()
                self._assigned[topic_partition].fenced = True

    def load(self, topic_partition: TopicPartition, state: Mapping[StateKey, bytes], epoch: int | None = None) -> None:
        """Replace the state of a partition: the next assignment begins with it, or the one of `epoch`.

        Records of earlier assignments change nothing any more.
        """
        with self.lock:
            known = self._assigned.get(topic_partition)
            newest = -1 if known is None else known.epoch
            if epoch is None:
                self._assigned[topic_partition] = _Assigned(Ledger(state), newest, fenced=True)
            elif epoch >= newest:
                self._assigned[topic_partition] = _Assigned(Ledger(state), epoch)

    def final(self, topic_partition: TopicPartition) -> StateTables:
        """Return a copy of the final values of a partition."""
        with self.lock:
            assigned = self._assigned.get(topic_partition)
            return StateTables(None if assigned is None else assigned.ledger.final)

    def topic_partitions(self) -> list[TopicPartition]:
        """Return the partitions that have a ledger."""
        with self.lock:
            return list(self._assigned)

    def sizes(self) -> dict[TopicPartition, StateSize]:
        """Return the size of each partition's state."""
        with self.lock:
            return {
                topic_partition: StateSize(len(each.ledger), each.ledger.size, each.ledger.waiting)
                for topic_partition, each in self._assigned.items()
            }
