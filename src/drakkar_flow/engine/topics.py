"""Topics of a flow, and the creation of missing ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.engine.build import resolve_sinks, resolve_topics, with_brokers
from drakkar_flow.engine.rights import ASK_S, admin_client, error_text
from drakkar_flow.errors import ConfigError, Problem, StartupError
from drakkar_flow.graph.flow import StreamFlow

__all__ = ["TopicResult", "TopicUse", "create_topics", "topics_of"]


@dataclass(frozen=True, slots=True)
class TopicUse:
    """A topic of a flow: the setting that names it, and the properties of a client of its brokers."""

    where: str
    name: str
    properties: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TopicResult:
    """Result for one topic: `created`, `exists`, `missing` (dry run), `pattern` or `failed`, with details."""

    where: str
    name: str
    state: str
    detail: str = ""


def topics_of(flow: StreamFlow, config: DrakkarConfig) -> list[TopicUse]:
    """Return the source topics, those of Kafka sinks, and the dead letter topic.

    Raises:
        ConfigError: the flow routes to sinks that are not configured.
    """
    config = resolve_topics(flow, config)
    source = client_properties(config.kafka)
    uses = [TopicUse("kafka.source_topic", topic, source) for topic in config.kafka.topics]
    components, problems = resolve_sinks(flow, config)
    if problems:
        raise ConfigError(problems)
    for part in components.values():
        if part.spec.kind == "kafka":
            settings = with_brokers(part.settings, config.kafka)
            uses.append(TopicUse(f"sinks.kafka.{part.name}.topic", settings.topic, _properties(settings)))
    dlq = with_brokers(config.dlq, config.kafka)
    return [*uses, TopicUse("dlq.topic", config.dead_letter_topic, _properties(dlq))]


def create_topics(
    uses: list[TopicUse], *, partitions: int | None, replication: int | None, dry_run: bool
) -> Iterator[TopicResult]:
    """Create missing topics; existing ones are compared and never changed.

    None for `partitions` or `replication` means the default of the brokers.

    Raises:
        StartupError: the brokers do not answer.
    """
    clients: dict[str, tuple[AdminClient, dict[str, Any]]] = {}
    for use in dict.fromkeys((use.where, use.name) for use in uses):
        found = next(each for each in uses if (each.where, each.name) == use)
        brokers = str(found.properties["bootstrap.servers"])
        if brokers not in clients:
            clients[brokers] = _connected(found)
        client, existing = clients[brokers]
        if found.name.startswith("^"):
            yield TopicResult(found.where, found.name, "pattern", "a regular expression can't be created")
        elif found.name in existing:
            yield TopicResult(
                found.where, found.name, "exists", _compared(existing[found.name], partitions, replication)
            )
        elif dry_run:
            yield TopicResult(found.where, found.name, "missing", "would be created")
        else:
            yield _created(client, found, partitions, replication)
            existing |= client.list_topics(found.name, timeout=ASK_S).topics


def _connected(use: TopicUse) -> tuple[AdminClient, dict[str, Any]]:
    where = use.where.rpartition(".")[0]
    try:
        client = admin_client(use.properties)
        return client, dict(client.list_topics(timeout=ASK_S).topics)
    except KafkaException as exc:
        what = f"no broker answers at {use.properties['bootstrap.servers']}: {error_text(exc)}"
        raise StartupError([Problem(f"{where}.brokers", what, f"start the brokers, or fix {where}.brokers")]) from None
    except (TypeError, ValueError) as exc:
        raise StartupError([Problem(f"{where}.client_config", str(exc))], exit_code=2) from None


def _compared(topic: Any, partitions: int | None, replication: int | None) -> str:
    count = len(topic.partitions)
    copies = min((len(each.replicas) for each in topic.partitions.values()), default=0)
    differences = [
        f"{wanted} asked for"
        for wanted, there in (
            (_of(partitions, "partition"), _of(count, "partition")),
            (_of(replication, "replica"), _of(copies, "replica")),
        )
        if wanted and wanted != there
    ]
    return ", ".join([_of(count, "partition"), _of(copies, "replica"), *differences])


def _of(count: int | None, noun: str) -> str:
    return "" if count is None else f"{count} {noun}{'' if count == 1 else 's'}"


def _created(client: AdminClient, use: TopicUse, partitions: int | None, replication: int | None) -> TopicResult:
    topic = NewTopic(use.name, num_partitions=partitions or -1, replication_factor=replication or -1)
    try:
        future: Future[None] = client.create_topics([topic], operation_timeout=ASK_S, request_timeout=ASK_S)[use.name]
        future.result(2 * ASK_S)
    except (KafkaException, TimeoutError) as exc:
        error = exc.args[0] if exc.args else None
        if isinstance(error, KafkaError) and error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return TopicResult(use.where, use.name, "exists")
        return TopicResult(use.where, use.name, "failed", error_text(exc))
    return TopicResult(
        use.where,
        use.name,
        "created",
        ", ".join(filter(None, [_of(partitions, "partition"), _of(replication, "replica")])),
    )


def _properties(settings: Any) -> dict[str, Any]:
    return {**settings.client_config, "bootstrap.servers": settings.brokers}
