"""Fixtures for everybody: a real Kafka, and topics on it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from scripts.servers.kafka import answers
from scripts.services import VARIABLES, Services
from support.kafka_io import Kafka, MakeTopic, create_topic, delete_topics
from support.names import unique


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    """The broker named by the environment, or the one that `make services-up` started."""
    variable = VARIABLES["kafka"]
    bootstrap = os.environ.get(variable) or Services().environment().get(variable, "")
    if bootstrap and answers(int(bootstrap.split(",")[0].rpartition(":")[2])):
        return Kafka(bootstrap)
    message = f"no Kafka at {bootstrap or variable}; start one with: make services-up"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture
def make_topic(kafka: Kafka) -> Iterator[MakeTopic]:
    """Make topics with unique names: `make_topic(partitions=4)` gives the name; they go away after the test."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    names: list[str] = []

    def make(partitions: int = 4) -> str:
        name = unique("topic")
        create_topic(admin, name, partitions)
        names.append(name)
        return name

    yield make
    delete_topics(admin, names)
