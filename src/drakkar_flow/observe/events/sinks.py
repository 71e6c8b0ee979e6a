"""Events of sinks and dead letters: deliveries, retries, circuits."""

from __future__ import annotations

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import NO_CONTEXT, EventContext

__all__ = [
    "DeadLetterFailed",
    "DeadLettersWritten",
    "DeliveriesFailed",
    "DeliveriesSkipped",
    "DeliveriesSuppressed",
    "DeliveriesWritten",
    "DeliveryRetried",
    "SinkCircuitChanged",
]


class DeliveriesWritten(Event, frozen=True):
    """A sink wrote a batch."""

    sink_type: str
    sink_name: str
    count: int
    duration_s: float


class DeliveryRetried(Event, frozen=True):
    """A sink failed and the batch is tried again after `delay_s`."""

    sink_type: str
    sink_name: str
    count: int
    attempt: int
    delay_s: float
    error: str
    about: EventContext = NO_CONTEXT


class DeliveriesFailed(Event, frozen=True):
    """Payloads were given up by a sink, after so many `attempts`."""

    sink_type: str
    sink_name: str
    count: int
    error: str
    attempts: int = 0
    about: EventContext = NO_CONTEXT


class DeliveriesSkipped(Event, frozen=True):
    """Payloads were dropped on purpose."""

    sink_type: str
    sink_name: str
    count: int
    about: EventContext = NO_CONTEXT


class DeliveriesSuppressed(Event, frozen=True):
    """Payloads or dead letters were not written, for their partitions were revoked; `topic_partitions` counts them."""

    count: int
    topic_partitions: tuple[tuple[TopicPartition, int], ...] = ()
    about: EventContext = NO_CONTEXT


class SinkCircuitChanged(Event, frozen=True):
    """A sink is left alone (open) after `failures` failed batches in a row, probed (half_open) or used again (closed).

    `waits` tells whether its deliveries wait while it is open, `reason` is why the last batch failed.
    """

    sink_type: str
    sink_name: str
    state: str
    failures: int
    waits: bool
    reason: str = ""


class DeadLettersWritten(Event, frozen=True):
    """Dead letters were acknowledged by the broker."""

    count: int
    about: EventContext = NO_CONTEXT


class DeadLetterFailed(Event, frozen=True):
    """Dead letters were not written; `dropped` says whether they were given up, `topic_partitions` counts them."""

    count: int
    error: str
    dropped: bool
    topic_partitions: tuple[tuple[TopicPartition, int], ...] = ()
    about: EventContext = NO_CONTEXT
