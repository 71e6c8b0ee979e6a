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
    """Slots were free for `slots_s` seconds in total while records waited; the consumer was idle for `consumer_s`."""

    slots_s: float
    consumer_s: float


class LoopAnswered(Event, frozen=True):
    """The event loop answered a probe after `after_s` seconds."""

    after_s: float


class Stalled(Event, frozen=True):
    """A stall: no progress for `for_s` seconds although there is work; emitted once per stall.

    `what` is `partition`, `loop` or `engine`. A stalled partition has its topic partition, the oldest offset
    in flight and the reason why it waits. `stacks` are those of threads and hooks.
    """

    what: str
    for_s: float
    topic_partition: TopicPartition | None = None
    offset: int = -1
    waits_for: str = ""
    stacks: tuple[tuple[str, str], ...] = ()


class StallEnded(Event, frozen=True):
    """A stall ended after `after_s` seconds."""

    what: str
    after_s: float
    topic_partition: TopicPartition | None = None
