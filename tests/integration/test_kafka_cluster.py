"""A private cluster can be broken and mended: what failure tests rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from scripts.services import KafkaCluster
from support.kafka_io import create_topic, produce, read_all

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KafkaCluster]:
    """A cluster of one broker that this test may break."""
    cluster = KafkaCluster(tmp_path / "kafka")
    cluster.start()
    yield cluster
    cluster.stop()


def test_a_killed_and_a_stopped_broker_come_back_with_their_data(cluster: KafkaCluster) -> None:
    """Acknowledged messages survive kill -9 and a clean stop, at the same address; stop leaves nothing but logs."""
    bootstrap = cluster.bootstrap
    create_topic(AdminClient({"bootstrap.servers": bootstrap}), "kept", partitions=1)
    produce(bootstrap, "kept", ["before"])

    cluster.kill_broker(1)
    assert not cluster.healthy
    cluster.start_broker(1)
    assert cluster.healthy
    produce(bootstrap, "kept", ["between"])

    cluster.stop_broker(1)
    assert not cluster.healthy
    cluster.start_broker(1)
    assert cluster.bootstrap == bootstrap
    assert [message.value() for message in read_all(bootstrap, "kept", expected=2)] == [b"before", b"between"]

    cluster.stop()
    assert not cluster.healthy
    assert sorted(path.name for path in cluster.brokers[0].directory.iterdir()) == ["broker.log", "server.properties"]
