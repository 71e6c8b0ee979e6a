"""Shared parts of log lines: names of partitions and executors, recurring phrases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.log.line import LogLine

__all__ = ["MAX_PARTITIONS", "UNLESS_HELD", "Lines", "executor_fields", "partition_name", "partition_names"]

Lines = dict[type[Event], Callable[[Any], LogLine | None]]
"""Functions that make the line of an event, by type of event; None means no line for this event."""

MAX_PARTITIONS = 10
"""Maximum of partitions in the lines of problems."""
UNLESS_HELD = "unless the brake holds them"


def executor_fields(executor_name: str) -> dict[str, Any]:
    """Return the field with the executor's name; none for the default executor."""
    return {"executor_name": executor_name} if executor_name else {}


def partition_names(topic_partitions: Iterable[TopicPartition]) -> list[str]:
    """Return the partitions as `topic:number`."""
    return [partition_name(topic_partition) for topic_partition in topic_partitions]


def partition_name(topic_partition: TopicPartition) -> str:
    """Return the partition as `topic:number`."""
    return f"{topic_partition[0]}:{topic_partition[1]}"
