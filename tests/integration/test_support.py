"""The helpers that other tests lean on tell the truth about a real Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from support.kafka_io import Kafka, MakeTopic, committed, end_offsets, produce, read_all
from support.names import unique
from support.until import until

pytestmark = pytest.mark.integration


def test_what_is_produced_is_read_back_in_order(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Keys, values and tombstones come back from the beginning, in order within a partition."""
    topic = make_topic(partitions=2)
    produce(kafka.bootstrap, topic, [b"a", None, "c"], keys=["k1", "k2", "k3"], partition=1)
    messages = read_all(kafka.bootstrap, topic, expected=3)
    assert [(message.key(), message.value()) for message in messages] == [(b"k1", b"a"), (b"k2", None), (b"k3", b"c")]
    assert {message.partition() for message in messages} == {1}


def test_reading_goes_on_to_the_end_even_when_there_is_enough(kafka: Kafka, make_topic: MakeTopic) -> None:
    """More messages than expected are seen, so a duplicate can't hide; an empty topic ends at once."""
    topic = make_topic()
    assert read_all(kafka.bootstrap, topic) == []
    produce(kafka.bootstrap, topic, [str(number) for number in range(5000)])
    assert len(read_all(kafka.bootstrap, topic, expected=1)) == 5000


def test_too_few_messages_fail_the_test_with_the_count(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Waiting for more than there is says how many there were."""
    topic = make_topic(partitions=1)
    produce(kafka.bootstrap, topic, ["only one"])
    with pytest.raises(pytest.fail.Exception, match="1 of 2 messages"):
        read_all(kafka.bootstrap, topic, expected=2, timeout_s=1)


def test_offsets_at_the_end_and_of_a_group_are_told_apart(kafka: Kafka, make_topic: MakeTopic) -> None:
    """Ends cover all partitions, commits only those for which the group has one."""
    topic, group = make_topic(partitions=2), unique("group")
    produce(kafka.bootstrap, topic, ["a", "b", "c"], partition=0)
    assert end_offsets(kafka.bootstrap, topic) == {0: 3, 1: 0}
    assert committed(kafka.bootstrap, group, topic) == {}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[KafkaPartition(topic, 0, 2)], asynchronous=False)
    consumer.close()
    assert committed(kafka.bootstrap, group, topic) == {0: 2}


def test_waiting_gives_the_value_or_fails_with_what_was_seen_last() -> None:
    """A wait returns what made it true; a wait in vain names the thing and its last value."""
    values = iter([0, 0, 3])
    assert until(lambda: next(values), what="a number") == 3
    with pytest.raises(pytest.fail.Exception, match=r"for snow; last seen: None"):
        until(lambda: None, timeout_s=0.01, what="snow")
