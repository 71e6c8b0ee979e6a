"""Events of a process that is idle, late or stalled."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event

__all__ = [
    "Idled",
    "LoopAnswered",
    "StallEnded",
    "Stalled",
]


class Idled(Event, frozen=True):
    """Slots were free for `slots_s` seconds in sum while records waited; the consumer had nothing for `consumer_s`."""

    slots_s: float
    consumer_s: float


class LoopAnswered(Event, frozen=True):
    """The event loop answered `after_s` seconds after it was asked."""

    after_s: float


class Stalled(Event, frozen=True):
    """Nothing has moved for `for_s` seconds though there is work; told once until it moves again.

    `what` is `partition`, `loop` or `engine`. For a partition there are its partition, the oldest offset
    in flight and what it waits for. `stacks` are where threads and hooks stand.
    """

    what: str
    for_s: float
    topic_partition: TopicPartition | None = None
    offset: int = -1
    waits_for: str = ""
    stacks: tuple[tuple[str, str], ...] = ()


class StallEnded(Event, frozen=True):
    """What was told as stalled moves again, after `after_s` seconds."""

    what: str
    after_s: float
    topic_partition: TopicPartition | None = None
