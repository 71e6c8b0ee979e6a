"""Stateful step with timers: a timer that is due fires with the next record of its partition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drakkar_flow.errors import StateError
from drakkar_flow.kernel.ledger import Ledger, StateChange
from drakkar_flow.kernel.timers import Timers
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.model.state import KEEP, key_of
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.state.timers import StepTimers, at_ms, encode_time
from drakkar_flow.runtime.steps.stateful import StatefulStep
from drakkar_flow.runtime.steps.transform import shares_of

__all__ = ["TimedStatefulStep"]


@dataclass(slots=True)
class _Turn:
    """Work on the records of one assignment in a chunk: values read so far, with the changes on top."""

    ledger: Ledger
    timers: Timers
    now_ms: int
    values: dict[str, bytes | None]
    changes: list[StateChange] = field(default_factory=list)
    timer_changes: list[StateChange] = field(default_factory=list)


class TimedStatefulStep(StatefulStep):
    """Fires timers before the function gets its record; their changes and outputs are those of this record.

    A timer is state, under the step's id with `.timer`, so firing it is a change that is final with the record. A timer
    whose function raises has fired too: its error takes a share of the record to the error route.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._timers = StepTimers(self._node.timers_of(self._step_id))

    def _run(
        self, chunk: Chunk[Record], assignment: tuple[TopicPartition, int], records: list[Record], now_ms: int
    ) -> list[Record]:
        keyed = self._keys.keyed(chunk, records)
        turn = self._turn(assignment, [key for _, key in keyed], now_ms)
        if turn is None or self._context.is_fenced(records[0]):
            chunk.acks += [Ack(record, record.credit, AckStatus.FENCED) for record, _ in keyed]
            return []
        kept: list[Record] = []
        for record, key in keyed:
            answers = [self._fire(turn, record, text) for text in turn.timers.due(now_ms)]
            answers.append(self._answer(turn, record, key))
            kept += self._divide(chunk, record, [answer for answer in answers if answer is not None])
        changes = {self._step_id: turn.changes, self._timers.step: turn.timer_changes}
        self._write(assignment, changes, now_ms, len(records))
        return kept

    def _turn(self, assignment: tuple[TopicPartition, int], keys: list[str], now_ms: int) -> _Turn | None:
        """Begin the work on records of an assignment; None if it is fenced."""
        with self._ledgers.lock:
            ledger = self._ledgers.at(*assignment)
            if ledger is None:
                return None
            return _Turn(ledger, self._timers.of(*assignment, ledger), now_ms, ledger.get_all(self._step_id, keys))

    def _fire(self, turn: _Turn, record: Record, key: str) -> Any:
        """Fire the timer of a key; returns its output or its error."""
        turn.timer_changes.append((key, None, record.offset))
        if key not in turn.values:
            with self._ledgers.lock:
                turn.values[key] = turn.ledger.get((self._step_id, key))
        on_timer = self._node.on_timer
        assert on_timer is not None
        user_key = key_of(key)
        output = self._answer(turn, record, key, lambda state: on_timer(state, user_key))
        if isinstance(output, _Raised):
            what = f"the timer of {self._step_id}, key {user_key!r}, failed: {describe(output.error)}"
            error = StateError(what)
            error.__cause__ = output.error
            return _Raised(error)
        return None if output is KEEP else output

    def _answer(self, turn: _Turn, record: Record, key: str, call: Callable[[Any], Any] | None = None) -> Any:
        """Apply a function, note its changes, and return its output or its error."""
        was = turn.values[key]
        try:
            value, output, timer_s = self._apply(record, key, was, turn.now_ms, call)
            due_ms = None if timer_s is KEEP or timer_s is None else at_ms(timer_s, turn.now_ms, self._step_id)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            return _Raised(exc)
        if value is not was:
            turn.values[key] = value
            turn.changes.append((key, value, record.offset))
        if timer_s is not KEEP:
            turn.timers.set(key, due_ms)
            turn.timer_changes.append((key, encode_time(due_ms, turn.now_ms), record.offset))
        return output

    def _divide(self, chunk: Chunk[Record], record: Record, answers: list[Any]) -> list[Record]:
        """Divide a record among outputs and errors; returns the records of the outputs."""
        if not answers:
            chunk.acks.append(Ack(record, record.credit, AckStatus.DONE))
            return []
        payload = record.payload
        kept = []
        for share in shares_of(record, answers):
            answer = share.payload
            if isinstance(answer, _Raised):
                share.payload = payload
                self._keys.fail(chunk, share, answer.error)
                continue
            if answer is KEEP:
                share.payload = payload
            kept.append(share)
        return kept


class _Raised(NamedTuple):
    """Error of a function, among outputs."""

    error: BaseException
