"""Reading the state topic: the newest message of each key, up to given ends. No group membership."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.kernel.state_messages import read_messages
from drakkar_flow.librdkafka import UNSERVED
from drakkar_flow.model.record import TopicPartition

__all__ = ["Contents", "read_partitions", "read_state", "reading_client"]

_ASK_S = 10.0  # the longest request

_BATCH = 5_000  # messages: more would hold the interpreter's lock for too long
_POLL_S = 0.02  # a batch that is not full ends with it


class Contents(NamedTuple):
    """Newest values by key of each partition, and the number of messages that were read."""

    values: dict[int, dict[bytes, bytes]]
    entries: int


def reading_client(client: Mapping[str, Any], group: str) -> Consumer:
    """Make a consumer that reads committed messages and a group's offsets, and never joins the group."""
    fixed = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",  # also lets `committed` wait for offsets of open transactions
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "log_level": 0,
    }
    defaults = {"fetch.wait.max.ms": 20, "queued.min.messages": 100_000, "queued.max.messages.kbytes": 128 << 10}
    return Consumer({**defaults, **client, **fixed}, logger=UNSERVED)


def read_partitions(
    consumer: Consumer, topic: str, ends: Mapping[int, int], is_cancelled: Callable[[], bool] = lambda: False
) -> Contents | None:
    """Read partitions from their beginning to their ends; returns None if the reading was cancelled.

    An end is reached when everything before it is decided: open transactions are waited for. Markers, aborted messages
    and gaps of the compaction count as read.

    Raises:
        KafkaException: the topic can't be read.
    """
    values: dict[int, dict[bytes, bytes]] = {partition: {} for partition in ends}
    unread = {partition for partition, end in ends.items() if end > 0}
    entries = 0
    consumer.list_topics(topic, timeout=_ASK_S)  # a client that knows no leader yet asks again after 0.5 s
    consumer.assign([KafkaPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    while unread:
        if is_cancelled():
            return None
        for message in consumer.consume(_BATCH, _POLL_S):
            error = message.error()
            partition = message.partition() or 0
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's public name for it
                    raise KafkaException(error)
                if (message.offset() or 0) >= ends[partition]:
                    unread.discard(partition)
                continue
            entries += 1
            key: Any = message.key()
            value: Any = message.value()
            if value is None:
                values[partition].pop(key, None)
            else:
                values[partition][key] = value
    consumer.unassign()
    return Contents(values, entries)


def read_state(client: Mapping[str, Any], group: str, topic: str) -> dict[TopicPartition, PartitionRow]:
    """Read position and state of every partition as they are now; the workers of the flow are not disturbed.

    Raises:
        KafkaException: the brokers do not answer, or the topic does not exist.
        StateMessageError: a message is damaged, foreign, or of a later format.
    """
    consumer = reading_client(client, group)
    try:
        found = consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        ends = {
            number: consumer.get_watermark_offsets(KafkaPartition(topic, number), timeout=_ASK_S)[1]
            for number in found.partitions
        }
        contents = read_partitions(consumer, topic, ends)
    finally:
        consumer.close()
    assert contents is not None
    rows = {}
    for number, values in contents.values.items():
        for source, (position, state) in read_messages(values).items():
            if position is not None:
                rows[source, number] = PartitionRow(position.offset, OffsetRanges(position.finished), state)
    return rows
