"""State steps: what the steps with keyed state have in common, the keys of their records included."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from drakkar_flow.errors import StateError
from drakkar_flow.graph.nodes import Stateful
from drakkar_flow.graph.time_windows import TimeWindow
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.model.state import key_of, key_text
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.failures import describe, failure_of
from drakkar_flow.runtime.state.ledgers import Ledgers
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.labels import Labels

__all__ = ["StateKeys", "StateStep"]


class StateKeys:
    """Keys of the records of one step, and errors that name step, key and record."""

    def __init__(self, step_id: str, function: Callable[..., Any], labels: Labels, *, with_record: bool) -> None:
        self._step_id = step_id
        self._function = function
        self._labels = labels
        self._with_record = with_record

    def keyed(self, chunk: Chunk[Record], records: list[Record]) -> list[tuple[Record, str]]:
        """Return the records with their keys as text; one without is a failure."""
        function, with_record, step = self._function, self._with_record, self._step_id
        keyed = []
        for record in records:
            try:
                key = function(record.payload, record) if with_record else function(record.payload)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                error = StateError(f"the key function of {step} failed for {self._labels.of(record)}: {describe(exc)}")
                error.__cause__ = exc
                self.fail(chunk, record, error)
                continue
            try:
                keyed.append((record, key_text(key)))
            except (TypeError, ValueError) as exc:
                what = f"the key function of {step} returned {key!r:.80} for {self._labels.of(record)}"
                self.fail(chunk, record, StateError(f"{what}: {exc}"))
        return keyed

    def located(self, record: Record, key: str, error: StateError) -> StateError:
        """Return an error that names the place of a value."""
        return StateError(f"state of {self._step_id}, key {key_of(key)!r}, {self._labels.of(record)}: {error}")

    def fail(self, chunk: Chunk[Record], record: Record, error: BaseException) -> None:
        """Turn a record into a failure."""
        tokens = ((record, record.credit),)
        chunk.failures.append(failure_of(FailureKind.BUSINESS, self._step_id, error, tokens))


class StateStep(ABC):
    """Step function over the records of a chunk, one assignment after the other; `wall_clock` returns epoch seconds."""

    def __init__(
        self,
        step_id: str,
        node: Stateful | TimeWindow,
        ledgers: Ledgers,
        context: StepContext,
        labels: Labels,
        wall_clock: Callable[[], float],
    ) -> None:
        self._step_id = step_id
        self._ledgers = ledgers
        self._context = context
        self._charge = context.charge()
        self._keys = StateKeys(step_id, node.key, labels, with_record=node.with_record)
        self._wall_clock = wall_clock

    def __call__(self, chunk: Chunk[Record]) -> Chunk[Record]:
        """Replace the records by those that go on; the others are finished, or failures."""
        now_ms = int(self._wall_clock() * 1000)
        kept: list[Record] = []
        for records in _by_assignment(chunk.items):
            first = records[0]
            kept += self._run(chunk, (first.topic_partition, first.epoch), records, now_ms)
        self._charge.payloads(kept)
        chunk.items = kept
        return chunk

    @abstractmethod
    def _run(
        self, chunk: Chunk[Record], assignment: tuple[TopicPartition, int], records: list[Record], now_ms: int
    ) -> list[Record]:
        """Process records of one assignment, in order; returns those that go on."""


def _by_assignment(records: list[Record]) -> Iterator[list[Record]]:
    """Yield records of one assignment that follow each other."""
    start, topic, partition, epoch = 0, "", -1, -1
    for at, record in enumerate(records):
        if record.partition != partition or record.epoch != epoch or record.topic != topic:
            if at:
                yield records[start:at]
            start, topic, partition, epoch = at, record.topic, record.partition, record.epoch
    if records:
        yield records[start:]
