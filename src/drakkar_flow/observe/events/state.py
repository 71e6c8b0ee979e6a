"""Events of keyed state in group mode."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event

__all__ = ["StateRestored", "StateStartDecided"]


class StateRestored(Event, frozen=True):
    """The state of an assigned partition was read from the state topic; its records are read now.

    `keys` is the number of its values. `entries` messages were read in `duration_s` seconds, together with the other
    partitions that were restored at the same time.
    """

    topic_partition: TopicPartition
    keys: int
    entries: int
    duration_s: float


class StateStartDecided(Event, frozen=True):
    """A partition starts although its state and the group's offset disagree; `what` has both and the decision."""

    topic_partition: TopicPartition
    what: str
