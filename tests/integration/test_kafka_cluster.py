"""A private cluster can be broken and mended: what failure tests rely on."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka_io import MakeCluster, create_topic, produce, read_all

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_killed_and_a_stopped_broker_come_back_with_their_data(make_cluster: MakeCluster) -> None:
    """Acknowledged messages survive kill -9 and a clean stop, at the same address; stop leaves nothing but logs."""
    cluster = make_cluster()
    bootstrap = cluster.bootstrap
    create_topic(AdminClient({"bootstrap.servers": bootstrap}), "kept", partitions=1)
    produce(bootstrap, "kept", ["before"])

    cluster.kill_broker(1)
    assert not cluster.healthy()
    cluster.start_broker(1)
    assert cluster.healthy()
    produce(bootstrap, "kept", ["between"])

    cluster.stop_broker(1)
    assert not cluster.healthy()
    cluster.start_broker(1)
    assert cluster.bootstrap == bootstrap
    assert [message.value() for message in read_all(bootstrap, "kept", expected=2)] == [b"before", b"between"]

    cluster.stop()
    assert not cluster.healthy()
    assert sorted(path.name for path in cluster.brokers[0].directory.iterdir()) == ["broker.log", "server.properties"]
