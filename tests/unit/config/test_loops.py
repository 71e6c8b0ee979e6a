"""A flow does not read its own output by accident."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import KafkaSink, KafkaSource, StreamFlow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.build import build_parts, resolve_topics
from drakkar_flow.errors import ConfigError
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.event_loop import EventLoopThread

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
        resolve_topics(flow.route(), config)
    config = resolve_topics(flow.route(), from_mapping({"dlq": {"topic": "dead"}}))
    with pytest.raises(ConfigError, match="would read its own output"):
        build_parts(flow.route(KafkaSink("out", topic="rx-out")), config, Bus(), EventLoopThread(), lambda: None)


@pytest.mark.parametrize(
    ("topic", "said"), [("in", "'in' is also a source topic"), ("dead", "'dead' is also the topic of dead letters")]
)
def test_f10_a_topic_that_is_read_and_written_by_name_is_noticed(topic: str, said: str) -> None:
    """It may be meant, to do a record again say: lint and the start say so."""
    sections: dict[str, Any] = {"dlq": {"topic": "dead"}, "sinks": {"kafka": {"out": {"topic": topic}}}}
    (notice,) = from_mapping({"kafka": {"source_topic": "in"}, **sections}).notices
    assert (notice.where, said in notice.what) == ("config sinks.kafka.out.topic", True)
    settled = resolve_topics(StreamFlow("loop", source=KafkaSource("in")).route(), from_mapping(sections))
    assert said in settled.notices[-1].what


LOOPS = {
    "one sink": ({"out": {"topic": "in"}}, StreamFlow("loop").route()),
    "two sinks": ({"out": {"topic": "in"}, "more": {"topic": "other"}}, StreamFlow("loop").route()),
    "one of several topics": ({"out": {"topic": "other"}}, StreamFlow("loop", KafkaSource("x", "other")).route()),
    "the flow's source": ({"out": {"topic": "mine"}}, StreamFlow("loop", source=KafkaSource("mine")).route()),
    "the flow's sink": ({}, StreamFlow("loop").route(KafkaSink("out", topic="in"))),
    "the flow's sink, named and configured": (
        {"out": {"topic": "out"}},
        StreamFlow("loop").route(KafkaSink("out", topic="in")),
    ),
    "the same brokers by another name": ({"out": {"topic": "in", "brokers": "LOCALHOST"}}, StreamFlow("l").route()),
}


def started(sinks: dict[str, Any], flow: StreamFlow) -> None:
    """What a start does with a flow and its configuration before anything is connected."""
    kafka: dict[str, Any] = {"brokers": "127.0.0.1:9092", "consumer_group": "g"}
    if not flow.source.topics:
        kafka["source_topic" if "more" not in sinks else "source_topics"] = (
            "in" if "more" not in sinks else ["in", "other"]
        )
    config = from_mapping({"kafka": kafka, "sinks": {"kafka": sinks}})
    build_parts(flow, resolve_topics(flow, config), Bus(), EventLoopThread(), lambda: None)


@pytest.mark.parametrize("loop", LOOPS)
def test_f10_a_sink_that_writes_to_a_source_topic_is_refused_at_the_start(loop: str) -> None:
    """Each such sink by its key, with the setting that allows it."""
    sinks, flow = LOOPS[loop]
    with pytest.raises(ConfigError) as refused:
        started(sinks, flow)
    assert refused.value.exit_code == 2
    assert len(refused.value.problems) == max(1, len(sinks))
    for problem in refused.value.problems:
        assert problem.where.startswith("sinks.kafka.")
        assert "is also a source topic: the flow would read its own output" in problem.what
        assert "allow_source_topic: true" in problem.remedy


def test_f10_a_loop_that_is_meant_is_allowed() -> None:
    """By the sink's own setting, in the file or in the flow; sinks that the route leaves out do not matter."""
    allowed = {"topic": "in", "allow_source_topic": True}
    started({"out": allowed}, StreamFlow("loop").route())
    started({}, StreamFlow("loop").route(KafkaSink("out", topic="in", allow_source_topic=True)))
    started({"out": {"topic": "out"}, "spare": {"topic": "in"}}, StreamFlow("loop").route(KafkaSink("out")))
    kafka = {"source_topic": "^rx-.*"}
    sections: dict[str, Any] = {"dlq": {"topic": "dead"}, "sinks": {"kafka": {"out": {**allowed, "topic": "rx-out"}}}}
    assert from_mapping({"kafka": kafka, **sections}).notices == ()
    assert from_mapping({"kafka": {"source_topic": "in"}, "sinks": {"kafka": {"out": allowed}}}).notices == ()


@pytest.mark.parametrize("flow", [StreamFlow("loop").route(), StreamFlow("loop", KafkaSource("in")).route()])
def test_f10_dead_letters_to_a_source_topic_are_always_refused(flow: StreamFlow) -> None:
    """A letter that comes back fails again."""
    sections: dict[str, Any] = {"dlq": {"topic": "in"}, "sinks": {"kafka": {"out": {"topic": "out"}}}}
    kafka = {} if flow.source.topics else {"kafka": {"source_topic": "in"}}
    with pytest.raises(ConfigError, match="dead letters would come back"):
        resolve_topics(flow, from_mapping({**sections, **kafka}))
