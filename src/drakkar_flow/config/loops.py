"""Loops: own output topics that the flow reads as well."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator

from drakkar_flow.config.sections.kafka import KafkaConfig
from drakkar_flow.config.sections.sinks import DlqConfig, KafkaSinkConfig, SinksConfig
from drakkar_flow.errors import Problem

__all__ = ["check_loops", "same_topic_notices", "sink_loop"]

Where = Callable[[tuple[str | int, ...]], str]

_LOOP = "the flow would read its own output"
_REMEDY = "give the sink another topic, or set its allow_source_topic: true where the flow ends the round itself"


def _pattern_that_reads(kafka: KafkaConfig, topic: str, brokers: str = "") -> str:
    """The source pattern that matches a topic on the source's brokers; empty when there is none."""
    if not _same_brokers(brokers, kafka.brokers):
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next((name for name in kafka.topics if name.startswith("^") and re.match(name, topic)), "")


def check_loops(kafka: KafkaConfig, sinks: SinksConfig, dlq: DlqConfig, dead_letter_topic: str) -> None:
    """Refuse a flow that would read its own output without `allow_source_topic`.

    Raises:
        ValueError: dead letters go to a source topic, or a source pattern matches the topic of dead letters or a sink.
    """
    if _same_brokers(dlq.brokers, kafka.brokers) and dead_letter_topic in kafka.topics:
        raise ValueError(f"dlq.topic {dead_letter_topic!r} is also a source topic: dead letters would come back")
    outputs = [("dlq", dead_letter_topic, dlq.brokers)]
    outputs += [
        (f"sinks.kafka.{name}", sink.topic, sink.brokers)
        for name, sink in sinks.kafka.items()
        if not sink.allow_source_topic
    ]
    for key, topic, brokers in outputs:
        if pattern := _pattern_that_reads(kafka, topic, brokers):
            raise ValueError(_loop_text(key, topic, pattern))


def sink_loop(kafka: KafkaConfig, key: str, sink: KafkaSinkConfig) -> Problem | None:
    """The error of a Kafka sink that writes to a topic the flow reads; None when it does not, or may.

    >>> sink_loop(KafkaConfig(source_topic="in"), "sinks.kafka.out", KafkaSinkConfig(topic="out"))
    """
    if sink.allow_source_topic or not _same_brokers(sink.brokers, kafka.brokers):
        return None
    if sink.topic in kafka.topics:
        return Problem(f"{key}.topic", f"{sink.topic!r} is also a source topic: {_LOOP}", _REMEDY)
    pattern = _pattern_that_reads(kafka, sink.topic, sink.brokers)
    return Problem(f"{key}.topic", _loop_text(key, sink.topic, pattern)) if pattern else None


def _loop_text(key: str, topic: str, pattern: str) -> str:
    """The error of an output topic that a source pattern matches."""
    return (
        f"the pattern {pattern!r} of kafka.source_topic matches {topic!r}, the topic of {key}: {_LOOP}; "
        "give that topic another name, or list the topics to read in kafka.source_topics"
    )


def same_topic_notices(kafka: KafkaConfig, sinks: SinksConfig, dead: str, where: Where) -> Iterator[Problem]:
    """A notice per Kafka sink that writes to a topic the flow reads, or to the topic of dead letters."""
    for name, sink in sinks.kafka.items():
        if _same_brokers(sink.brokers, kafka.brokers):
            place = where(("sinks", "kafka", name, "topic"))
            if sink.topic == dead:
                yield Problem(place, f"{sink.topic!r} is also the topic of dead letters", "give each its own topic")
            elif sink.topic in kafka.topics and not sink.allow_source_topic:
                yield Problem(place, f"{sink.topic!r} is also a source topic: {_LOOP}", _REMEDY)


def _same_brokers(one: str, other: str) -> bool:
    """True if two lists of bootstrap servers have a common one; an empty list stands for the source's."""
    return not one or not _addresses(one.split(",")).isdisjoint(_addresses(other.split(",")))


def _addresses(brokers: Iterable[str]) -> set[str]:
    hosts = (broker.strip().lower().replace("localhost", "127.0.0.1") for broker in brokers)
    return {host if ":" in host else f"{host}:9092" for host in hosts if host}
