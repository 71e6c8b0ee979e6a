"""Kafka rights of this client: topics and the consumer group, queried from the brokers without using them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from drakkar_flow.errors import Problem

__all__ = [
    "ASK_S",
    "Wanted",
    "admin_client",
    "described_group",
    "error_text",
    "group_problems",
    "matching_topics",
    "topic_problems",
]

ASK_S = 10.0
"""Timeout of one request to the brokers, in seconds."""
_AGAIN_S = 0.2  # between two requests for a group whose coordinator is not ready
_SOON = frozenset(
    {KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR}
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic and the operation that a flow needs; `where` is the setting that names the topic."""

    where: str
    topic: str
    operation: Literal["READ", "WRITE"]


def admin_client(properties: Mapping[str, Any]) -> AdminClient:
    """Return an admin client that logs nothing.

    Raises:
        KafkaException, TypeError, ValueError: librdkafka refuses the properties.
    """
    return AdminClient({**properties, "log_level": 0})


def topic_problems(client: AdminClient, wanted: Wanted) -> list[Problem]:
    """Return the problems of a topic: it is missing or hidden, or the right is not granted."""
    topic, operation = wanted.topic, wanted.operation.lower()
    remedy = f"allow this client to {operation} and describe the topic"
    try:
        asked = client.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=ASK_S
        )
        found = asked[topic].result(2 * ASK_S)
    except (KafkaException, TimeoutError) as exc:
        error = exc.args[0] if exc.args else None
        if isinstance(error, KafkaError) and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            remedy = "create it: drakkar-flow topics create FLOW"
            return [Problem(wanted.where, f"topic {topic!r} does not exist", remedy)]
        return [Problem(wanted.where, f"topic {topic!r} can't be described: {error_text(exc)}", remedy)]
    if wanted.operation not in _names(found.authorized_operations, wanted.operation):
        return [Problem(wanted.where, f"no right to {operation} topic {topic!r}", remedy)]
    return []


def group_problems(client: AdminClient, group: str) -> list[Problem]:
    """Return the problems that prevent this client from joining the consumer group."""
    where, remedy = "kafka.consumer_group", f"allow this client to read group {group!r}, or use another group"
    try:
        found = described_group(client, group, rights=True)
    except (KafkaException, TimeoutError) as exc:
        return [Problem(where, f"group {group!r} can't be described: {error_text(exc)}", remedy)]
    if "READ" not in _names(found.authorized_operations, "READ"):
        return [Problem(where, f"no right to read group {group!r}", remedy)]
    return []


def described_group(client: AdminClient, group: str, *, rights: bool = False) -> Any:
    """Return state and members of a consumer group, and with `rights` the operations that this client may use.

    Brokers that have just started, or never had a group, are not ready at once: the request is repeated.

    Raises:
        KafkaException, TimeoutError: the brokers refuse, or do not answer in time.
    """
    deadline = time.monotonic() + ASK_S
    while True:
        asked = client.describe_consumer_groups([group], include_authorized_operations=rights, request_timeout=ASK_S)
        try:
            return asked[group].result(2 * ASK_S)
        except KafkaException as exc:
            if exc.args[0].code() not in _SOON or time.monotonic() >= deadline:
                raise
            time.sleep(_AGAIN_S)


def matching_topics(client: AdminClient, topics: Iterable[str]) -> list[str]:
    """Return the topics, with each regular expression replaced by the existing topics that match it.

    Raises:
        KafkaException: the brokers do not answer.
    """
    patterns = [re.compile(topic) for topic in topics if topic.startswith("^")]
    existing = client.list_topics(timeout=ASK_S).topics if patterns else {}
    matching = [name for name in existing if any(pattern.match(name) for pattern in patterns)]
    return [*(topic for topic in topics if not topic.startswith("^")), *sorted(matching)]


def _names(operations: Iterable[Any] | None, unknown: str) -> set[str]:
    """Return the names of granted operations; for a broker that is too old to report them, `unknown`."""
    return {operation.name for operation in operations} if operations is not None else {unknown}


def error_text(exc: Exception) -> str:
    """Return the text of a Kafka error without its codes; the name of the error if there is no text."""
    error = exc.args[0] if exc.args else exc
    if not isinstance(error, KafkaError):
        return str(error) or type(exc).__name__
    text: str = error.str()
    return text if text.rstrip(": ") == text and text else f"{text}{error.name()}"
