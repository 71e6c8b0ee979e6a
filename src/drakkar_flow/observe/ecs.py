"""Log lines by the names of the Elastic Common Schema (ECS)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ECS_VERSION", "to_ecs"]

ECS_VERSION = "8.17.0"

_NAMES = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "logger": "log.logger",
    "service_name": "service.name",
    "service_version": "service.version",
    "worker_id": "service.node.name",
    "topic": "kafka.topic",
    "partition": "kafka.partition",
    "offset": "kafka.offset",
    "error": "error.message",
    "error_type": "error.type",
    "exception": "error.stack_trace",
}


def to_ecs(line: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the fields of a line; dotted names stay flat, as Elastic's own logging libraries write them.

    The event is the `message` and the `event.action`. What ECS has no name for goes to `labels`,
    which takes no lists and objects: these go to `drakkar`.

    >>> line = {"timestamp": "2026-01-02T03:04:05Z", "level": "info", "event": "drain_finished", "unfinished": 0}
    >>> for name, value in to_ecs(line).items():
    ...     print(name, value)
    @timestamp 2026-01-02T03:04:05Z
    log.level info
    message drain_finished
    ecs.version 8.17.0
    event.action drain_finished
    labels.unfinished 0
    """
    event = line.get("event")
    fields: dict[str, Any] = {"@timestamp": line.get("timestamp"), "log.level": line.get("level"), "message": event}
    fields |= {"ecs.version": ECS_VERSION, "event.action": event}
    for name, value in line.items():
        if name in _NAMES:
            fields[_NAMES[name]] = value
        elif name != "event":
            fields[f"{'drakkar' if isinstance(value, list | tuple | dict) else 'labels'}.{name}"] = value
    return fields
