"""The brokers' state at a start, as librdkafka's mock broker gives it."""

from __future__ import annotations

from confluent_kafka import Producer

from drakkar_flow.runtime.recovery.brokers import read_brokers


def test_a_broker_without_a_controller_is_not_asked_for_topic_ids() -> None:
    """librdkafka waits for a controller before it asks, and would end in a time-out."""
    broker = Producer({"bootstrap.servers": "localhost", "test.mock.num.brokers": 1, "log_level": 0})
    (address,) = broker.list_topics(timeout=10).brokers.values()
    broker.produce("in", b"one", partition=0)
    assert broker.flush(10) == 0
    state = read_brokers({"bootstrap.servers": f"{address.host}:{address.port}"}, "group", ["in"])
    assert state.topic_ids == {"in": ""}
    assert (state.logs["in", 0], state.committed) == ((0, 1), {})
