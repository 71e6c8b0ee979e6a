"""Kafka's own names of settings, and what they are called here."""

from __future__ import annotations

import re
from typing import Final

from drakkar_flow.config.sections.client_properties import OWNED

__all__ = ["here_called"]

_SOURCE: Final = {
    "topic": "kafka.source_topic",
    "topics": "kafka.source_topics",
    "input_topic": "kafka.source_topic",
    "input_topics": "kafka.source_topics",
    "group": "kafka.consumer_group",
    "consumer_group_id": "kafka.consumer_group",
    "groupid": "kafka.consumer_group",
    "broker": "kafka.brokers",
    "broker_list": "kafka.brokers",
    "servers": "kafka.brokers",
    "bootstrap": "kafka.brokers",
    "bootstrap_server": "kafka.brokers",
    "max_poll_records": "kafka.max_poll_records",
    "offset_reset": "kafka.auto_offset_reset",
    "username": "kafka.security.sasl_username",
    "password": "kafka.security.sasl_password",
}


def here_called(path: tuple[str | int, ...]) -> str:
    """The fix for an unknown key that Kafka's clients know, in the sections where they would put it; else empty.

    >>> here_called(("kafka", "group.id"))
    'did you mean kafka.consumer_group?'
    >>> here_called(("kafka", "enable_auto_commit"))
    'remove it: offsets are committed only after delivery'
    >>> here_called(("sinks", "kafka", "out", "bootstrapServers"))
    'did you mean sinks.kafka.out.brokers?'
    >>> here_called(("kafka", "fetch.min.bytes"))
    'properties of librdkafka belong under kafka.client_config'
    """
    *parent, last = map(str, path)
    section = ".".join(parent)
    if parent and parent[0] not in ("kafka", "dlq") and parent[:2] != ["sinks", "kafka"]:
        return ""
    key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower().replace(".", "_").replace("-", "_")
    why = next((text for name, text in OWNED.items() if name.replace(".", "_") == key), "")
    if why and not why.startswith("it is "):
        return f"remove it: {why}"
    found = why.removeprefix("it is ") or (_SOURCE.get(key, "") if section == "kafka" or "_" in key else "")
    if found and not found.startswith("kafka.security") and section not in ("", "kafka"):
        found = f"{section}.brokers" if found == "kafka.brokers" else ""
    if found:
        return f"did you mean {found}?"
    return f"properties of librdkafka belong under {section or 'kafka'}.client_config" if "." in last else ""
