"""Running a flow on the tests' Kafka until all records are finished, for lessons and pages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drakkar_flow import StreamingRunner
from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot
from examples.playground import run_until
from support.kafka_io import Kafka, MakeTopic, committed, produce, read_all
from support.names import unique

__all__ = ["Outcome", "run_flow"]


@dataclass(frozen=True)
class Outcome:
    """What a run left behind: messages in the output and dead letter topics, committed records."""

    exit_code: int
    out: list[str]
    dead: list[str]
    committed: int
    statistics: StatisticsSnapshot

    @property
    def values(self) -> list[Any]:
        """The output's messages as JSON, sorted: partitions have no order among each other."""
        return sorted((json.loads(text) for text in self.out), key=repr)


def run_flow(
    kafka: Kafka, make_topic: MakeTopic, flow: Any, inputs: Iterable[bytes], config: Mapping[str, Any] | None = None
) -> Outcome:
    """Run `flow` over `inputs` on fresh topics; every Kafka sink it names writes to the same one."""
    values = list(inputs)
    source, output, letters = make_topic(), make_topic(), make_topic()
    group = unique("group")
    given: dict[str, Any] = dict(config or {})
    sinks = dict(given.get("sinks", {}))
    sinks["kafka"] = {name: {"topic": output} for name in sinks.get("kafka", {"out": None})}
    settings = {
        **given,
        "kafka": {"brokers": kafka.bootstrap, "source_topic": source, "consumer_group": group},
        "sinks": sinks,
        "dlq": {"topic": letters},
        "metrics": {"enabled": False},
    }
    produce(kafka.bootstrap, source, values)
    runner = StreamingRunner.from_dict(flow, settings)
    exit_code = run_until(runner, len(values))
    return Outcome(
        exit_code,
        [(message.value() or b"").decode() for message in read_all(kafka.bootstrap, output)],
        [(message.value() or b"").decode() for message in read_all(kafka.bootstrap, letters)],
        sum(committed(kafka.bootstrap, group, source).values()),
        runner.statistics(),
    )
