"""Keyed state of a flow in a test: final values by step and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import StateCodec, UserKey, key_of, key_text, plain_value

__all__ = ["FinalState"]


class FinalState:
    """Final values of all partitions that have not expired at `now_s`."""

    def __init__(
        self, flow: StreamFlow, stored: Mapping[TopicPartition, Mapping[StateKey, bytes]], now_s: float
    ) -> None:
        self._codecs = dict(flow.state_codecs())
        self._stored = stored
        self._now_ms = int(now_s * 1000)

    def plain(self) -> dict[str, dict[UserKey, Any]]:
        """Return all values as plain data, by step and sorted keys; values of one key of two partitions name theirs."""
        found: dict[str, dict[UserKey, Any]] = {}
        for step in self._codecs:
            values = sorted(self._of(step), key=lambda value: str(value[0]))
            keys = [key for key, _, _ in values]
            found[step] = {
                key if keys.count(key) == 1 else f"{key!s} of {topic}:{partition}": plain_value(stored)
                for key, (topic, partition), stored in values
            }
        return {step: values for step, values in found.items() if values}

    def value(self, key: UserKey, step: str, partition: int | None) -> Any:
        """Return the value of a key as the step's type; None if it has none.

        Raises:
            AssertionError: the step is unknown, or several steps or partitions match.
        """
        known = ", ".join(self._codecs) or "none"
        if step not in self._codecs and (step or len(self._codecs) != 1):
            what = f"unknown step {step!r}" if step else f"{len(self._codecs)} steps have state"
            raise AssertionError(f"{what}; set step= to one of: {known}")
        step = step or next(iter(self._codecs))
        found = {
            topic_partition: stored
            for each, topic_partition, stored in self._of(step)
            if key_text(each) == key_text(key) and partition in (None, topic_partition[1])
        }
        if len(found) > 1:
            places = ", ".join(f"{topic}:{number}" for topic, number in found)
            raise AssertionError(f"key {key!r} has values in several partitions: {places}; set partition=")
        return next((self._codecs[step].decode(stored) for stored in found.values()), None)

    def _of(self, step: str) -> Iterator[tuple[UserKey, TopicPartition, bytes]]:
        codec: StateCodec = self._codecs[step]
        for topic_partition, values in self._stored.items():
            for (each, key), stored in values.items():
                if each == step and not codec.is_expired(stored, self._now_ms):
                    yield key_of(key), topic_partition, stored
