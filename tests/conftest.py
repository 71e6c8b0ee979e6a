"""Fixtures for everybody: a real Kafka, and topics on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, settings

from drakkar_flow.kinds.registry import EXECUTORS, SINKS
from scripts.servers.kafka import answers
from scripts.services import VARIABLES, KafkaCluster, Services, missing_programs
from support.kafka_io import Kafka, MakeCluster, MakeTopic, create_topic, delete_topics
from support.machine import share_machine
from support.names import unique

# How long an example takes says more about the machine than about the code.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def pytest_configure() -> None:
    """Let programs that tests start heed SIGINT, which whoever is started in the background ignores."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Begin a test when its turn on the machine has come; its timeout begins after that."""
    with share_machine(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Reports cross from pytest-xdist's processes as UTF-8, which has no halves of characters: escape those."""
    return _escaped((yield))


@pytest.fixture(autouse=True)
def _no_plug_ins_of_other_tests() -> Iterator[None]:
    """The kinds that a test adds are unknown to the next one."""
    yield
    SINKS.forget()
    EXECUTORS.forget()


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    """The broker named by the environment, or the one that `make services-up` started."""
    variable = VARIABLES["kafka"]
    bootstrap = os.environ.get(variable) or Services().environment().get(variable, "")
    if not bootstrap or not answers(int(bootstrap.split(",")[0].rpartition(":")[2])):
        _unavailable(f"no Kafka at {bootstrap or variable}; start one with: make services-up")
    return Kafka(bootstrap)


@pytest.fixture(scope="session")
def postgres() -> str:
    """The connection string of a real PostgreSQL: make tables with names of your own."""
    return _address("postgres")


@pytest.fixture(scope="session")
def redis() -> str:
    """The URL of a real Redis: use keys with a prefix of your own."""
    return _address("redis")


@pytest.fixture(scope="session")
def mongo() -> str:
    """The connection string of a server that speaks MongoDB's protocol: make databases with names of your own."""
    return _address("mongo")


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


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Start clusters that the test may break: `make_cluster(brokers=3)`; they are stopped after the test."""
    if missing := missing_programs():
        _unavailable(f"no {' and no '.join(missing)}; install with: make services-up")
    clusters: list[KafkaCluster] = []

    def make(brokers: int = 1, properties: Mapping[str, str] | None = None) -> KafkaCluster:
        cluster = KafkaCluster(tmp_path / f"kafka-{len(clusters)}", brokers, properties=properties)
        clusters.append(cluster)
        cluster.start()
        return cluster

    yield make
    for cluster in clusters:
        cluster.stop()


def _escaped(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_escaped(key): _escaped(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(_escaped, value))
    return value


def _address(kind: str) -> str:
    address = os.environ.get(VARIABLES[kind]) or Services().environment().get(VARIABLES[kind], "")
    if not address:
        _unavailable(f"no {kind} at {VARIABLES[kind]}; start one with: make services-up")
    return address


def _unavailable(message: str) -> NoReturn:
    """Fail in CI, where servers must be there, and skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
