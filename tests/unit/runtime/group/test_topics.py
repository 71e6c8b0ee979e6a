"""What the ids of topics tell, whatever the brokers do."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka._model import TopicCollection

from drakkar_flow.model.record import Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import ConsumerError
from drakkar_flow.runtime.group import topics as module
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.topics import TopicWatch


class Brokers:
    """Answer with the id of each topic, or with an error code."""

    def __init__(self) -> None:
        self.ids: dict[str, str | int] = {}

    def describe_topics(self, asked: TopicCollection, request_timeout: float) -> dict[str, Answer]:
        """As confluent-kafka's admin client."""
        return {topic: Answer(self.ids[topic]) for topic in self.ids}


class Answer:
    """A future, and the description of a topic."""

    def __init__(self, topic_id: str | int) -> None:
        self.topic_id = topic_id

    def result(self, timeout: float) -> Answer:
        """What the broker said."""
        if isinstance(self.topic_id, int):
            raise KafkaException(KafkaError(self.topic_id))
        return self


@pytest.fixture
def read() -> set[str]:
    """The topics that are read now."""
    return {"in"}


@pytest.fixture
def errors() -> list[ConsumerError]:
    """What was emitted."""
    return []


@pytest.fixture
def watch(read: set[str], errors: list[ConsumerError]) -> TopicWatch:
    """A watch whose thread does not run."""
    bus = Bus()
    bus.listen(ConsumerError, errors.append)
    made = TopicWatch({}, 10.0, lambda: read, bus)
    made._admin = Brokers()  # type: ignore[assignment]  # a fake of what is used
    return made


def look(watch: TopicWatch, found: str | int) -> None:
    admin: Any = watch._admin
    admin.ids = {"in": found}
    watch._check_topics(["in"])


def names(watch: TopicWatch) -> list[str]:
    return [each.topic for each in watch.recreated()]


def test_another_id_is_told_once(watch: TopicWatch) -> None:
    """The first id is no change."""
    for found, told in (("a", []), ("a", []), ("b", ["in"]), ("b", [])):
        look(watch, found)
        assert names(watch) == told


def test_a_topic_that_is_gone_is_said_once_and_compared_when_it_is_back(
    watch: TopicWatch, errors: list[ConsumerError]
) -> None:
    """However often it is asked for meanwhile."""
    for found in ("a", KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_OR_PART, "b"):
        look(watch, found)
    assert ["'in' was deleted" in event.error for event in errors] == [True]
    assert names(watch) == ["in"]


def test_brokers_that_do_not_answer_prove_nothing(watch: TopicWatch) -> None:
    """They are asked again, by another client."""
    look(watch, "a")
    look(watch, KafkaError._TIMED_OUT)
    assert watch._admin is None
    watch._admin = Brokers()  # type: ignore[assignment]  # a fake of what is used
    look(watch, "a")
    assert names(watch) == []


def test_partitions_that_come_soon_are_concerned_and_later_ones_not(
    watch: TopicWatch, read: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance may lie between; much later the group has positions in the new topic."""
    look(watch, "a")
    read.clear()
    look(watch, "b")
    assert names(watch) == []
    read.add("in")
    assert names(watch) == ["in"]
    read.clear()
    look(watch, "c")
    assert names(watch) == []
    monkeypatch.setattr(module, "_VALID_S", 0.0)
    assert names(watch) == []
    read.add("in")
    assert names(watch) == []


def test_a_position_of_an_older_epoch_that_comes_late_changes_nothing() -> None:
    """The log was rewound: what finished before is of another log."""
    positions = CommitQueue(1.0, 1, 0.0)
    topic_partition = ("in", 0)
    positions.note([Watermark(topic_partition, 2, 0)])
    positions.note([Watermark(topic_partition, 1, 10)])
    assert positions.of({topic_partition: 2}) == {topic_partition: 0}
