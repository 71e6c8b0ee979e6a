"""The Kafka sink keeps every sink's promises, on a real broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drakkar_flow.sinks.kafka.payload import KafkaPayload
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.sinks.kafka.sink import SPEC, KafkaSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkFeatures, SinkSuite
from support.kafka_io import Kafka, MakeTopic, read_all

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class KafkaBench(SinkBench):
    """A topic with one partition, so that it has one order."""

    spec = SPEC
    features = SinkFeatures(keys=True)

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap = bootstrap
        self.topic = topic

    def sink(self) -> KafkaSink:
        return KafkaSink("results", KafkaSinkConfig(topic=self.topic, brokers=self.bootstrap))

    def unreachable(self) -> KafkaSink:
        settings = KafkaSinkConfig(topic=self.topic, brokers="127.0.0.1:1", delivery_timeout_s=1)
        return KafkaSink("results", settings)

    def payload(self, item: Any, key: bytes | str | None = None) -> KafkaPayload:
        return KafkaPayload(data=item, key=key)

    def read(self) -> list[Item]:
        return [json.loads(message.value() or b"") for message in read_all(self.bootstrap, self.topic)]

    def keys(self) -> list[bytes | None]:
        keys: list[Any] = [message.key() for message in read_all(self.bootstrap, self.topic)]
        return keys


class TestKafkaSink(SinkSuite):
    """The suite."""

    @pytest.fixture
    def bench(self, kafka: Kafka, make_topic: MakeTopic) -> KafkaBench:
        """A fresh topic."""
        return KafkaBench(kafka.bootstrap, make_topic(1))
