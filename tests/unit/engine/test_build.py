"""From a flow and a configuration to parts: what is made, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drakkar_flow import DrakkarConfig, KafkaSink, KafkaSource, StreamFlow, Subprocess
from drakkar_flow.engine.build import build_parts, consumer_properties, resolve_topics
from drakkar_flow.errors import ConfigError
from drakkar_flow.graph.nodes import SinkRef
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.sinks.registry import SPECS


def flow(*topics: str, **route: Any) -> StreamFlow:
    """A flow of nothing but a source and a route."""
    return StreamFlow("f", source=KafkaSource(*topics)).route(*route.pop("sinks", ()), **route)


def parts_of(subject: StreamFlow, config: DrakkarConfig) -> Components:
    """The parts, not connected."""
    return build_parts(subject, config, Bus(), EventLoopThread(), lambda: None)


# --- topics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_flow", "of_config", "read"),
    [
        ((), {}, ("input-events",)),
        (("a", "b"), {}, ("a", "b")),
        (("a",), {"source_topic": "c"}, ("c",)),
        (("a",), {"source_topics": ["c", "d"]}, ("c", "d")),
        ((), {"source_topic": "c"}, ("c",)),
    ],
)
def test_the_configurations_topics_go_before_the_flows(
    of_flow: tuple[str, ...], of_config: dict[str, object], read: tuple[str, ...]
) -> None:
    """A flow's topics are its default; a configuration that names any decides."""
    settled = resolve_topics(flow(*of_flow), DrakkarConfig(kafka=of_config))
    assert settled.kafka.topics == read


def test_settling_topics_keeps_everything_else() -> None:
    """And names the dead letter topic after the flow's topic."""
    config = DrakkarConfig(executor={"max_executors": 9}, kafka={"consumer_group": "g"})
    settled = resolve_topics(flow("orders"), config)
    assert (settled.executor.max_executors, settled.kafka.consumer_group) == (9, "g")
    assert settled.dead_letter_topic == "orders_dlq"


def test_a_flow_that_reads_a_pattern_needs_a_dead_letter_topic() -> None:
    """The rule of the configuration holds for the flow's own topics too."""
    with pytest.raises(ConfigError, match=r"the topics of flow 'f': dlq.topic must be set"):
        resolve_topics(flow("^in-.*"), DrakkarConfig())
    assert resolve_topics(flow("^in-.*"), DrakkarConfig(dlq={"topic": "dead"})).dead_letter_topic == "dead"


def test_a_flow_that_reads_its_own_dead_letters_is_refused() -> None:
    """They would come back for ever."""
    with pytest.raises(ConfigError, match="dead letters would come back"):
        resolve_topics(flow("in", "dead"), DrakkarConfig(dlq={"topic": "dead"}))


# --- sinks ----------------------------------------------------------------------------------------------


def test_a_flow_without_named_sinks_gets_all_that_are_configured() -> None:
    """Each is a part under the id of its step."""
    config = DrakkarConfig(
        sinks={"kafka": {"a": {"topic": "x"}, "b": {"topic": "y"}}, "sqlite": {"c": {"path": "c.db"}}}
    )
    components = parts_of(flow(), config)
    assert list(components.sinks) == ["kafka-a", "kafka-b", "sqlite-c"]
    assert all(part.id == sink_id for sink_id, part in components.sinks.items())


def test_a_flow_that_names_sinks_gets_these_only() -> None:
    """Settings in the flow go over those of the configuration."""
    config = DrakkarConfig(sinks={"kafka": {"a": {"topic": "x", "linger_ms": 7}, "b": {"topic": "y"}}})
    components = parts_of(flow(sinks=[KafkaSink("a", topic="z")]), config)
    assert list(components.sinks) == ["kafka-a"]
    settings = components.sinks["kafka-a"].settings
    assert (settings.topic, settings.linger_ms) == ("z", 7)  # type: ignore[attr-defined]  # the kind is known here


def test_a_sink_may_be_given_in_the_flow_alone() -> None:
    """With all it needs it is not missed in the configuration."""
    components = parts_of(flow(sinks=[KafkaSink("new", topic="t")]), DrakkarConfig())
    assert components.sinks["kafka-new"].settings.topic == "t"  # type: ignore[attr-defined]  # the kind is known here


def test_a_sink_is_made_with_the_time_limit_of_all_sinks_unless_it_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that keep their time themselves have to know it."""
    made: dict[str, Any] = {}
    spec = replace(SPECS["kafka"], make=lambda name, settings: made.setdefault(name, settings))
    monkeypatch.setattr("drakkar_flow.engine.build.SPECS", {"kafka": spec})
    kafka = {"own": {"topic": "a", "delivery_timeout_s": 30}, "silent": {"topic": "b"}}
    parts_of(flow(), DrakkarConfig(sinks={"kafka": kafka, "delivery_timeout_seconds": 7}))
    assert {name: settings.delivery_timeout_s for name, settings in made.items()} == {"own": 30, "silent": 7}


def test_every_sink_that_does_not_fit_is_told_at_once() -> None:
    """Unknown kinds, missing sinks, settings that are wrong: each with its place and a remedy."""
    config = DrakkarConfig(sinks={"kafka": {"a": {"topic": "x"}}})
    sinks = [SinkRef("smtp", "mail"), KafkaSink("b"), KafkaSink("a", linger_ms=-1), KafkaSink("c", colour="red")]
    with pytest.raises(ConfigError) as caught:
        parts_of(flow(sinks=sinks), config)
    problems = {problem.where: problem for problem in caught.value.problems}
    assert "unknown kind of sink 'smtp'" in problems["sinks.smtp.mail"].what
    assert "kafka" in problems["sinks.smtp.mail"].remedy
    assert "not configured" in problems["sinks.kafka.b"].what
    assert "there are: a" in problems["sinks.kafka.b"].remedy
    assert {"sinks.kafka.a.linger_ms", "sinks.kafka.c.topic", "sinks.kafka.c.colour"} <= set(problems)


def test_d32_a_configuration_without_any_sink_is_refused() -> None:
    """D-32: results would go nowhere."""
    with pytest.raises(ConfigError, match="no sink is configured"):
        parts_of(flow(), DrakkarConfig())


# --- executor -------------------------------------------------------------------------------------------


def test_an_executor_is_made_only_for_flows_that_execute() -> None:
    """A flow of steps has no slots and no bound of an executor."""
    components = parts_of(flow(sinks=[KafkaSink("a", topic="t")]), DrakkarConfig())
    assert (components.executor, components.intake) == (None, None)


def test_the_flows_program_goes_before_the_configurations() -> None:
    """What the flow does not say comes from the configuration."""
    subject = (
        StreamFlow("f")
        .arrange(lambda records, _: [])
        .execute(Subprocess("/bin/true", max_executors=7))
        .collect()
        .route(KafkaSink("a", topic="t"))
    )
    components = parts_of(subject, DrakkarConfig(executor={"max_executors": 3, "binary_path": "/bin/false"}))
    assert components.executor is not None
    assert components.executor.statistics().slots == 7
    assert components.intake is not None


def test_the_intake_keeps_between_the_marks_of_the_configuration() -> None:
    """2 executors, multipliers 5 and 2: nothing runs yet, so what is read is bounded by the high mark, 10."""
    subject = StreamFlow("f").arrange(lambda records, _: []).execute().collect().route(KafkaSink("a", topic="t"))
    executor = {"max_executors": 2, "backpressure_high_multiplier": 5, "backpressure_low_multiplier": 2}
    components = parts_of(subject, DrakkarConfig(executor=executor))
    assert components.intake is not None
    assert components.intake.room() == 10
    components.intake.take(4)
    assert components.intake.room() == 6


# --- consumer -------------------------------------------------------------------------------------------


def test_the_consumer_never_commits_by_itself() -> None:
    """Offsets are committed by us alone, whatever client_config says elsewhere."""
    properties = consumer_properties(DrakkarConfig(kafka={"consumer_group": "g", "brokers": "b:1"}).kafka)
    assert properties["enable.auto.commit"] is False
    assert properties["enable.auto.offset.store"] is False
    assert (properties["group.id"], properties["bootstrap.servers"]) == ("g", "b:1")
    assert properties["partition.assignment.strategy"] == "cooperative-sticky"
    assert "group.instance.id" not in properties


def test_the_new_group_protocol_leaves_out_what_the_broker_decides() -> None:
    """KIP-848 refuses session timeouts and strategies of the client."""
    kafka = DrakkarConfig(kafka={"group_protocol": "consumer", "group_instance_id": "me"}).kafka
    properties = consumer_properties(kafka)
    assert properties["group.protocol"] == "consumer"
    assert properties["group.instance.id"] == "me"
    assert not {"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"} & set(properties)


def test_client_config_may_tune_our_prefetch() -> None:
    """Our own defaults give way to the user's properties."""
    kafka = DrakkarConfig(kafka={"client_config": {"queued.max.messages.kbytes": 1}}).kafka
    assert consumer_properties(kafka)["queued.max.messages.kbytes"] == 1


def test_g14_properties_that_the_flow_gives_a_sink_are_looked_at_too() -> None:
    """With the key that is wrong."""
    wrong = flow(sinks=(KafkaSink("out", topic="t", client_config={"lingr.ms": 5}),))
    with pytest.raises(ConfigError) as caught:
        parts_of(wrong, DrakkarConfig())
    (problem,) = caught.value.problems
    assert problem.where == "sinks.kafka.out.client_config.lingr.ms"
    assert problem.what == "unknown librdkafka property; did you mean 'linger.ms'?"
