"""A flow does not read its own output by accident."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import KafkaSink, KafkaSource, StreamFlow
from drakkar_flow.config.load import from_mapping
from drakkar_flow.engine.build import build_parts, settle_topics
from drakkar_flow.errors import ConfigError
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.bridge import Bridge

KAFKA = {"brokers": "b1:9092,b2:9092", "source_topic": "^rx-.*"}


@pytest.mark.parametrize(
    "sections",
    [
        {"dlq": {"topic": "rx-dead"}},
        {"dlq": {"topic": "rx-dead", "brokers": "b2:9092"}},
        {"dlq": {"topic": "dead"}, "sinks": {"kafka": {"out": {"topic": "rx-out"}}}},
        {"dlq": {"topic": "dead"}, "sinks": {"kafka": {"out": {"topic": "rx-out", "brokers": "B1"}}}},
        {"dlq": {"topic": "in"}, "kafka": {"source_topics": ["a", "in"]}},
    ],
)
def test_f10_a_pattern_that_matches_an_own_topic_is_refused(sections: dict[str, Any]) -> None:
    """Whether that topic exists already or appears later."""
    with pytest.raises(ConfigError, match=r"would read its own output|would come back"):
        from_mapping({"kafka": KAFKA, **sections})


def test_topics_elsewhere_are_no_loop() -> None:
    """On other brokers, or with names that the pattern does not match."""
    sinks = {"kafka": {"a": {"topic": "rx-out", "brokers": "c:9092"}, "b": {"topic": "out-rx-"}}}
    assert from_mapping({"kafka": KAFKA, "dlq": {"topic": "dead"}, "sinks": sinks}).notices == ()


def test_f10_what_the_flow_names_is_looked_at_too() -> None:
    """Its topics as well as the settings of its sinks."""
    config = from_mapping({"dlq": {"topic": "dead"}, "sinks": {"kafka": {"out": {"topic": "rx-out"}}}})
    flow = StreamFlow("loop", source=KafkaSource("^rx-.*"))
    with pytest.raises(ConfigError, match="would read its own output"):
        settle_topics(flow.route(), config)
    config = settle_topics(flow.route(), from_mapping({"dlq": {"topic": "dead"}}))
    with pytest.raises(ConfigError, match="would read its own output"):
        build_parts(flow.route(KafkaSink("out", topic="rx-out")), config, Bus(), Bridge(), lambda: None)


@pytest.mark.parametrize(
    ("topic", "said"), [("in", "'in' is also a source topic"), ("dead", "'dead' is also the topic of dead letters")]
)
def test_f10_a_topic_that_is_read_and_written_by_name_is_noticed(topic: str, said: str) -> None:
    """It may be meant, to do a record again say: lint and the start say so."""
    sections: dict[str, Any] = {"dlq": {"topic": "dead"}, "sinks": {"kafka": {"out": {"topic": topic}}}}
    (notice,) = from_mapping({"kafka": {"source_topic": "in"}, **sections}).notices
    assert (notice.where, said in notice.what) == ("config sinks.kafka.out.topic", True)
    settled = settle_topics(StreamFlow("loop", source=KafkaSource("in")).route(), from_mapping(sections))
    assert said in settled.notices[-1].what
