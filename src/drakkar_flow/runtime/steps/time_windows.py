"""Time window step: adds records to windows of event time, on the engine's thread, and emits those that are passed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import reduce
from math import isfinite
from typing import Final, NamedTuple

from drakkar_flow.errors import LateRecord, StateError
from drakkar_flow.graph.time_windows import Session, TimeWindow
from drakkar_flow.kernel.ledger import Ledger, StateChange
from drakkar_flow.kernel.windows import Assigner, OpenWindows, Placement, Span
from drakkar_flow.model.outcome import Ack, AckStatus, FailureKind
from drakkar_flow.model.record import Record, TopicPartition
from drakkar_flow.model.state import StateCodec, key_of, window_key_text, window_of
from drakkar_flow.model.window_result import WindowResult
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.failures import failure_of
from drakkar_flow.runtime.state.ledgers import Ledgers
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.state_step import StateStep
from drakkar_flow.runtime.steps.transform import shares_of

__all__ = ["TimeWindowStep"]

_WATERMARK_KEY: Final = "event time in ms"

Windows = OpenWindows[tuple[str, bytes]]


class _Opened(NamedTuple):
    """Open windows of one assignment, as its ledger has them."""

    epoch: int
    ledger: Ledger
    windows: Windows


class _Changes(NamedTuple):
    windows: list[StateChange]
    watermark: list[StateChange]


class TimeWindowStep(StateStep):
    """Replaces records by the results of the windows that they close; those that close none are finished.

    Every record changes the watermark's value, though most leave it as it was. So the records of a partition become
    final in the order of this step: a window that was closed never rests on fewer records than its result.

    Open windows are read from the ledger once per assignment. No other step writes these keys, and a partition's chunks
    come one after the other.
    """

    def __init__(
        self,
        step_id: str,
        node: TimeWindow,
        codecs: tuple[StateCodec, StateCodec],
        ledgers: Ledgers,
        context: StepContext,
        labels: Labels,
        wall_clock: Callable[[], float],
    ) -> None:
        super().__init__(step_id, node, ledgers, context, labels, wall_clock)
        self._node = node
        self._codec, self._watermark_codec = codecs
        self._watermark_step = node.watermark_of(step_id)
        self._assigner: Assigner = node.windows.assigner()
        self._labels = labels
        self._max_ahead_ms = None if node.max_ahead_s is None else node.max_ahead_s * 1000
        self._opened: dict[TopicPartition, _Opened] = {}

    def _run(
        self, chunk: Chunk[Record], assignment: tuple[TopicPartition, int], records: list[Record], now_ms: int
    ) -> list[Record]:
        """Add records of one assignment to their windows, in order."""
        keyed = self._keys.keyed(chunk, records)
        windows = self._windows_at(*assignment)
        if windows is None or self._context.is_fenced(records[0]):
            chunk.acks += [Ack(record, record.credit, AckStatus.FENCED) for record, _ in keyed]
            return []
        kept: list[Record] = []
        changes = _Changes([], [])
        for record, key in keyed:
            try:
                results = self._take(windows, record, key, changes, now_ms)
            except KeyboardInterrupt:
                raise
            except LateRecord as exc:
                self._late(chunk, record, exc)
            except BaseException as exc:
                self._keys.fail(chunk, record, exc)
            else:
                if results:
                    kept += shares_of(record, results)
                else:
                    chunk.acks.append(Ack(record, record.credit, AckStatus.DONE))
        self._write(assignment, changes)
        return kept

    def _windows_at(self, topic_partition: TopicPartition, epoch: int) -> Windows | None:
        """Return the open windows of an assignment; None if it is fenced."""
        with self._ledgers.lock:
            ledger = self._ledgers.at(topic_partition, epoch)
            if ledger is None:
                return None
            opened = self._opened.get(topic_partition)
            if opened is None or opened.epoch != epoch or opened.ledger is not ledger:
                opened = self._opened[topic_partition] = _Opened(epoch, ledger, self._read(ledger))
        return opened.windows

    def _read(self, ledger: Ledger) -> Windows:
        watermark = ledger.final.of(self._watermark_step).get(_WATERMARK_KEY)
        opened = []
        for stored in ledger.final.of(self._step_id).items():
            key, start_ms, end_ms = window_of(stored[0])
            opened.append((key, Span(start_ms, end_ms), stored))
        watermark_ms = None if watermark is None else self._watermark_codec.decode(watermark)
        return OpenWindows(self._assigner, self._node.lateness_ms, opened, watermark_ms)

    def _take(self, windows: Windows, record: Record, key: str, changes: _Changes, now_ms: int) -> list[WindowResult]:
        """Add a record to its windows and close those that it passes; an error leaves all as it was.

        Raises:
            LateRecord: all its windows are passed.
        """
        at_ms = self._time_of(record)
        if self._max_ahead_ms is not None and at_ms - now_ms > self._max_ahead_ms:
            what = f"the event time of {self._labels.of(record)} is {(at_ms - now_ms) / 1000:,.0f} s in the future"
            raise ValueError(f"{what}; raise max_ahead_s of {self._step_id} if that is right")
        placements = windows.place(key, at_ms)
        if not placements:
            late_s = (windows.watermark_at(at_ms) - at_ms) / 1000
            raise LateRecord(
                f"{self._labels.of(record)} is {late_s:g} s behind the event-time watermark of {self._step_id}"
            )
        added = [(placement, self._added(windows, record, key, placement, now_ms)) for placement in placements]
        due = windows.due(at_ms)
        results = [self._result(windows, record, *each) for each in due]
        watermark_ms = windows.watermark_at(at_ms)
        watermark = self._watermark_codec.encode(watermark_ms, now_ms)
        offset = record.offset
        for placement, stored in added:
            changes.windows.extend(
                (windows.get(key, span)[0], None, offset) for span in placement.merged if span != placement.span
            )
            windows.put(key, placement, stored)
            changes.windows.append((*stored, offset))
        changes.windows.extend((windows.get(*each)[0], None, offset) for each in due)
        windows.close(at_ms, due)
        changes.watermark.append((_WATERMARK_KEY, watermark, offset))
        return results

    def _time_of(self, record: Record) -> int:
        """Return the event time of a record in ms."""
        node = self._node
        if node.time is None:
            if record.timestamp < 0:
                raise ValueError(f"{self._labels.of(record)} has no timestamp; pass time= to {self._step_id}")
            return record.timestamp
        time = node.time(record.payload, record) if node.with_record else node.time(record.payload)
        if isinstance(time, datetime) and time.tzinfo is not None:
            time = time.timestamp()
        if (type(time) is not float and type(time) is not int) or not isfinite(time):
            what = "seconds since the epoch or a datetime with a time zone"
            raise TypeError(f"the time function of {self._step_id} must return {what}, not {time!r:.80}")
        return round(time * 1000)

    def _added(
        self, windows: Windows, record: Record, key: str, placement: Placement, now_ms: int
    ) -> tuple[str, bytes]:
        """Return the key and the value of a window after a record."""
        node, (span, merged) = self._node, placement
        stored = [windows.get(key, each) for each in merged]
        window_key = stored[0][0] if merged == (span,) else window_key_text(key, *span)
        try:
            values = [self._codec.decode(value) for _, value in stored]
            if len(values) > 1 and isinstance(node.windows, Session):
                values = [reduce(node.windows.merge, values)]
            before = values[0] if values else None
            after = node.fn(before, record.payload, record) if node.with_record else node.fn(before, record.payload)
            return window_key, self._codec.encode(after, now_ms)
        except StateError as exc:
            raise self._keys.located(record, window_key, exc) from exc

    def _result(self, windows: Windows, record: Record, key: str, span: Span) -> WindowResult:
        window_key, stored = windows.get(key, span)
        try:
            value = self._codec.decode(stored)
        except StateError as exc:
            raise self._keys.located(record, window_key, exc) from exc
        return WindowResult(key_of(key), span.start_ms / 1000, span.end_ms / 1000, value)

    def _write(self, assignment: tuple[TopicPartition, int], changes: _Changes) -> None:
        with self._ledgers.lock:
            ledger = self._ledgers.at(*assignment)
            if ledger is not None:  # else fenced meanwhile: the records are read again
                ledger.put_all(self._step_id, changes.windows)
                ledger.put_all(self._watermark_step, changes.watermark)

    def _late(self, chunk: Chunk[Record], record: Record, error: LateRecord) -> None:
        failure = failure_of(FailureKind.LATE, self._step_id, error, ((record, record.credit),))
        failure.to_dlq = self._node.late == "dlq"
        failure.skipped = self._node.late == "skip"
        chunk.failures.append(failure)
