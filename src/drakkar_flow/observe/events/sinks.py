"""Events of sinks and dead letters: deliveries, retries, circuit breakers."""

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
    """A sink failed to write a batch, which is retried after `delay_s`."""

    sink_type: str
    sink_name: str
    count: int
    attempt: int
    delay_s: float
    error: str
    about: EventContext = NO_CONTEXT


class DeliveriesFailed(Event, frozen=True):
    """Payloads were not delivered after `attempts`; the sink's policy applies to them."""

    sink_type: str
    sink_name: str
    count: int
    error: str
    attempts: int = 0
    about: EventContext = NO_CONTEXT


class DeliveriesSkipped(Event, frozen=True):
    """Payloads were skipped by a rule or a hook."""

    sink_type: str
    sink_name: str
    count: int
    about: EventContext = NO_CONTEXT


class DeliveriesSuppressed(Event, frozen=True):
    """Payloads or dead letters of revoked partitions were not written; `topic_partitions` has the counts."""

    count: int
    topic_partitions: tuple[tuple[TopicPartition, int], ...] = ()
    about: EventContext = NO_CONTEXT


class SinkCircuitChanged(Event, frozen=True):
    """A sink's circuit breaker opened after `failures` failed batches in a row, probes (half_open), or closed.

    `waits` is True if deliveries wait while it is open; `reason` is the error of the last batch.
    """

    sink_type: str
    sink_name: str
    state: str
    failures: int
    waits: bool
    reason: str = ""


class DeadLettersWritten(Event, frozen=True):
    """The brokers acknowledged dead letters."""

    count: int
    about: EventContext = NO_CONTEXT


class DeadLetterFailed(Event, frozen=True):
    """Dead letters were not written; `dropped` is True if they were discarded, `topic_partitions` has the counts."""

    count: int
    error: str
    dropped: bool
    topic_partitions: tuple[tuple[TopicPartition, int], ...] = ()
    about: EventContext = NO_CONTEXT
