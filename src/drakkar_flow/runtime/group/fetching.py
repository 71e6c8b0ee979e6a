"""Wake-up of librdkafka's fetching threads, which may sleep up to 1 s when a pause ends.

librdkafka itself pauses all partitions of a consumer while its assignment changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.model.record import TopicPartition

__all__ = ["wake_fetchers"]

_ASK_S = 0.5  # the longest time that brokers without an answer may delay the reader


def wake_fetchers(consumer: Consumer, topic_partitions: Iterable[TopicPartition]) -> None:
    """Let partitions be fetched at once: asks their leaders for an offset, because a request wakes up the thread."""
    now_ms = int(time.time() * 1000)
    if asked := [KafkaPartition(*at, now_ms) for at in topic_partitions]:
        with suppress(KafkaException):
            consumer.offsets_for_times(asked, _ASK_S)
