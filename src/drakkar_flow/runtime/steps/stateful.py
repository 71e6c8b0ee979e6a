"""Stateful step: a function of a key's state and a record, on the engine's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drakkar_flow.errors import StateError
from drakkar_flow.graph.nodes import Stateful
from drakkar_flow.kernel.ledger import StateChange
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.model.state import KEEP, StateCodec
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.state.ledgers import Ledgers
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.state_step import StateStep

__all__ = ["StatefulStep"]

_SWEPT = 1  # values checked for expiry per record: each of N values is checked once per N records


class StatefulStep(StateStep):
    """Sets each payload to the output of the function; records without output are finished.

    The ledger is locked twice for the records of a partition: to read all their keys, and to write all changes. Between
    both, changes of earlier records of the chunk are in a table. No other step writes these keys, and a partition's
    chunks come one after the other.
    """

    def __init__(
        self,
        step_id: str,
        node: Stateful,
        codec: StateCodec,
        ledgers: Ledgers,
        context: StepContext,
        labels: Labels,
        wall_clock: Callable[[], float],
    ) -> None:
        super().__init__(step_id, node, ledgers, context, labels, wall_clock)
        self._node = node
        self._codec = codec

    def _run(
        self, chunk: Chunk[Record], assignment: tuple[TopicPartition, int], records: list[Record], now_ms: int
    ) -> list[Record]:
        """Apply the function to records of one assignment, in order."""
        keyed = self._keys.keyed(chunk, records)
        with self._ledgers.lock:
            ledger = self._ledgers.at(*assignment)
            values = None if ledger is None else ledger.get_all(self._step_id, [key for _, key in keyed])
        if values is None or self._context.is_fenced(records[0]):
            chunk.acks += [Ack(record, record.credit, AckStatus.FENCED) for record, _ in keyed]
            return []
        kept: list[Record] = []
        changes: list[StateChange] = []
        for record, key in keyed:
            was = values[key]
            try:
                value, output, _ = self._apply(record, key, was, now_ms)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                self._keys.fail(chunk, record, exc)
                continue
            if value is not was:
                values[key] = value
                changes.append((key, value, record.offset))
            if output is None:
                chunk.acks.append(Ack(record, record.credit, AckStatus.DONE))
                continue
            if output is not KEEP:
                record.payload = output
            kept.append(record)
        self._write(assignment, {self._step_id: changes}, now_ms, _SWEPT * len(records))
        return kept

    def _apply(
        self, record: Record, key: str, was: bytes | None, now_ms: int, call: Callable[[Any], Any] | None = None
    ) -> tuple[bytes | None, Any, Any]:
        """Return the stored value after a record, `was` itself if it is unchanged, the output, and the timer.

        `call` takes the place of the step's function. The timer is KEEP if the function returns none.
        """
        codec, node = self._codec, self._node
        lasting = codec.ttl_ms is None
        live = was if lasting or was is None or not codec.is_expired(was, now_ms) else None
        try:
            state = None if live is None else codec.decode(live)
        except StateError as exc:
            raise self._keys.located(record, key, exc) from exc
        if call is not None:
            answer = call(state)
        else:
            answer = node.fn(state, record.payload, record) if node.with_record else node.fn(state, record.payload)
        timer = KEEP
        if type(answer) is tuple and len(answer) == 2:
            new, output = answer
        elif type(answer) is tuple and len(answer) == 3 and node.on_timer is not None:
            new, output, timer = answer
        else:
            what = "(state, output)" if node.on_timer is None else "(state, output) or (state, output, timer_s)"
            raise TypeError(f"the function of {self._step_id} must return a tuple {what}, not {_described(answer)}")
        if new is None:
            return None, output, timer
        try:
            value = codec.encode(new, now_ms)
        except StateError as exc:
            raise self._keys.located(record, key, exc) from exc
        # A state that is returned as it came is not written again; a new one counts as written, for it renews the TTL.
        if live is not None and (new is state or lasting) and codec.are_equal(live, value):
            return was, output, timer
        return value, output, timer

    def _write(
        self,
        assignment: tuple[TopicPartition, int],
        changes: Mapping[str, Sequence[StateChange]],
        now_ms: int,
        swept: int,
    ) -> None:
        """Write changes by step, and check the next `swept` values for expiry."""
        if not any(changes.values()) and self._codec.ttl_ms is None:
            return
        with self._ledgers.lock:
            ledger = self._ledgers.at(*assignment)
            if ledger is None:
                return  # fenced meanwhile: the records are read again
            for step, each in changes.items():
                ledger.put_all(step, each)
            if self._codec.ttl_ms is not None:
                is_expired = self._codec.is_expired
                ledger.sweep(self._step_id, lambda value: is_expired(value, now_ms), swept)


def _described(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
