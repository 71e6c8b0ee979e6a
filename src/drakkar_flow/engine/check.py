"""Online check: connects to every dependency of a flow and verifies it; nothing is consumed or committed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anyio import to_thread
from confluent_kafka import KafkaException, Producer

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.engine.build import build_parts, resolve_topics, with_brokers
from drakkar_flow.engine.flow_lifecycle import FlowLifecycle
from drakkar_flow.engine.group_state import transactional_id_of
from drakkar_flow.engine.rights import (
    ASK_S,
    Wanted,
    admin_client,
    error_text,
    group_problems,
    matching_topics,
    topic_problems,
)
from drakkar_flow.engine.startup import check_source
from drakkar_flow.errors import Problem, ProblemsError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.librdkafka import UNSERVED
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.log.structured import structlog
from drakkar_flow.runtime.components import Components, SinkComponent
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.state_topic.topic import KEY, StateTopic
from drakkar_flow.runtime.state_topic.transactions import producer_properties

__all__ = ["Checked", "check_flow"]


@dataclass(frozen=True, slots=True)
class Checked:
    """Result for one component of a flow; `exit_code` is 0, 1 (unreachable) or 2 (invalid configuration).

    `not_checked` describes the parts that can't be verified before a run.
    """

    part: str
    problems: tuple[Problem, ...] = ()
    exit_code: int = 0
    not_checked: str = ""


def check_flow(flow: StreamFlow, config: DrakkarConfig, timeout_s: float) -> list[Checked]:
    """Connect to every dependency once, each for at most `timeout_s`, and close it. `on_startup` is called.

    Raises:
        FlowError, ConfigError, StartupError: the components can't be built.
    """
    loop_thread = EventLoopThread()
    bus = Bus(lambda _event, _error: None)
    life = FlowLifecycle(flow, bus, loop_thread, structlog.wrap_logger(structlog.PrintLogger(sys.stderr)))
    try:
        config = resolve_topics(flow, life.open(config))
        life.components = build_parts(flow, config, bus, loop_thread, lambda: None)
        return loop_thread.run(_check_all(flow, life.components, timeout_s))
    finally:
        life.close()


async def _check_all(flow: StreamFlow, components: Components, timeout_s: float) -> list[Checked]:
    config = components.config
    dlq = with_brokers(config.dlq, config.kafka)
    checks: list[tuple[str, Coroutine[Any, Any, Sequence[Problem]]]] = [
        (f"kafka {config.kafka.brokers}, topics, group", to_thread.run_sync(_check_kafka, config, timeout_s)),
        *((f"sinks.{part.spec.kind}.{part.name}", _check_sink(part, config)) for part in components.sinks.values()),
        (
            f"dlq {config.dead_letter_topic}",
            _check_topic(components.dead_letters.connect, Wanted("dlq.topic", config.dead_letter_topic, "WRITE"), dlq),
        ),
    ]
    if components.state_topic is not None:
        topic = components.state_topic
        checks.append((f"state topic {topic.name}", to_thread.run_sync(_check_state, flow, topic, config, timeout_s)))
    if components.executor is not None:
        checks.append(("executor", _check_executor(components.executor.start)))
    checked = await asyncio.gather(*(_checked(name, check, timeout_s) for name, check in checks))
    unknown = {f"sinks.{part.spec.kind}.{part.name}": part.spec.not_checked for part in components.sinks.values()}
    return [replace(each, not_checked=unknown.get(each.part, "")) for each in checked]


async def _checked(name: str, check: Coroutine[Any, Any, Sequence[Problem]], timeout_s: float) -> Checked:
    try:
        async with asyncio.timeout(timeout_s):
            problems = await check
    except ProblemsError as exc:
        return Checked(name, exc.problems, exc.exit_code)
    except TimeoutError:
        return Checked(name, (Problem("", f"no answer within {timeout_s:g} s", "check that the server runs"),), 1)
    except Exception as exc:  # an error of a client library must not hide the other results
        return Checked(name, (Problem("", describe(exc)),), 1)
    return Checked(name, tuple(problems), 2 if problems else 0)


def _check_kafka(config: DrakkarConfig, timeout_s: float) -> list[Problem]:
    kafka = config.kafka
    check_source(kafka.model_copy(update={"startup_timeout_s": timeout_s / 2}), lambda _problem: None)
    client = admin_client(client_properties(kafka))
    topics = matching_topics(client, kafka.topics)
    wanted = [Wanted("kafka.source_topic", topic, "READ") for topic in topics]
    problems = [problem for each in wanted for problem in topic_problems(client, each)]
    return problems + group_problems(client, kafka.consumer_group)


def _check_state(flow: StreamFlow, topic: StateTopic, config: DrakkarConfig, timeout_s: float) -> list[Problem]:
    """Ask for the rights to the state topic, if it exists, and to transactions, with an id that no worker has."""
    client = admin_client(topic.client)
    problems: list[Problem] = []
    if topic.name in client.list_topics(timeout=ASK_S).topics:
        problems += topic_problems(client, Wanted(KEY, topic.name, "READ"))
        problems += topic_problems(client, Wanted(KEY, topic.name, "WRITE"))
    transactional_id = transactional_id_of(flow.name, config, "check")
    try:
        producer = Producer(producer_properties(topic, transactional_id), logger=UNSERVED)
        producer.init_transactions(timeout_s / 2)
    except KafkaException as exc:
        what = f"no transactions as {transactional_id!r}: {error_text(exc)}"
        remedy = "allow this client to write and describe transactional ids that begin with the group and the flow"
        problems.append(Problem("runtime.state", what, remedy))
    return problems


async def _check_topic(
    connect: Callable[[], Coroutine[Any, Any, None]], wanted: Wanted, settings: Any
) -> list[Problem]:
    await connect()
    client = admin_client({**settings.client_config, "bootstrap.servers": settings.brokers})
    return await to_thread.run_sync(topic_problems, client, wanted)


async def _check_sink(part: SinkComponent, config: DrakkarConfig) -> list[Problem]:
    where = f"sinks.{part.spec.kind}.{part.name}"
    if part.spec.kind == "kafka":
        settings = with_brokers(part.settings, config.kafka)
        wanted = Wanted(f"{where}.topic", settings.topic, "WRITE")
        return await _check_topic(part.sink.connect, wanted, settings)
    await part.sink.connect()
    return [] if part.spec.prove is None else [*await part.spec.prove(where, part.settings)]


async def _check_executor(start: Callable[[], Coroutine[Any, Any, None]]) -> list[Problem]:
    await start()
    return []
