"""GroupReader: a member of a Kafka consumer group, with its own thread.

The thread is the only user of the consumer: it polls, buffers, pauses, commits, and answers
rebalances, so that no commit can race a revoke. The engine's threads only pop buffered records.

Revoke, in this order: the partition's buffer is dropped and nothing more of it is given out; what is
in flight may finish within the drain budget; what did not is fenced (not delivered, not committed);
the last watermark is committed synchronously; the partition is released. A lost partition is fenced
at once and nothing is committed for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from drakkar_flow.model.record import FULL_CREDIT, Lane, Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import (
    BrokerStateChanged,
    CommitFailed,
    Committed,
    ConsumerError,
    DrainFinished,
    IntakePaused,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
)
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.source import ReaderStatistics
from drakkar_flow.runtime.tracker import Watermark

__all__ = ["GroupReader", "GroupSettings"]

_POLL_S = 0.1  # the longest the thread sleeps in poll: bounds how late a commit or a stop is noticed
_FULL_WAIT_S = 0.005  # between looks at full buffers; librdkafka keeps its own prefetch meanwhile
_PAUSE_AFTER_S = 1.0  # full buffers for longer than this pause the partitions, which drops librdkafka's prefetch
_PROBE_S = 2.0  # between two looks for brokers that are down
_FINAL_COMMIT_ATTEMPTS = 5
_RESUME_AT = 0.5  # of the limit


class GroupSettings(NamedTuple):
    """What a GroupReader needs to know; times in seconds, sizes in bytes."""

    topics: tuple[str, ...]
    properties: dict[str, Any]
    poll_records: int = 1000
    buffer_records_per_partition: int = 5000
    buffer_size: int = 64 * 1024 * 1024
    commit_interval_s: float = 0.5
    commit_max_offsets: int = 1000
    drain_timeout_s: float = 30.0


class _Partition:
    """One assignment: its buffer and its place in the log."""

    __slots__ = ("buffer", "epoch", "lane", "last_offset", "paused", "queued", "revoked")

    def __init__(self, lane: Lane, epoch: int) -> None:
        self.lane = lane
        self.epoch = epoch
        self.buffer: deque[Record] = deque()
        self.last_offset = -1
        self.paused = False
        self.queued = False  # stands in the queue of partitions that have records
        self.revoked = False


class GroupReader:
    """Reads the topics of a consumer group into bounded buffers and commits watermarks."""

    def __init__(self, settings: GroupSettings, flight: Flight, control: Control, bus: Bus) -> None:
        self._settings = settings
        self._flight = flight
        self._control = control
        self._bus = bus
        self._lock = threading.Lock()
        self._partitions: dict[Lane, _Partition] = {}
        self._ready: dict[int, deque[_Partition]] = {}
        self._slots = 1
        self._buffered_records = 0
        self._buffered_size = 0
        self._positions: dict[Lane, tuple[int, int]] = {}
        self._dirty: set[Lane] = set()
        self._finished_since_commit = 0
        self._last_commit_at = time.monotonic()
        self._epoch = 0
        self._paused = False
        self._full_since: float | None = None
        self._up = True
        self._probed_at = 0.0
        self._closing = threading.Event()
        self._consumer: Consumer | None = None
        self._thread = threading.Thread(target=self._run, name="drakkar-reader", daemon=True)

    # --- what the engine's threads call ---------------------------------------------------------

    def start(self) -> None:
        """Join the group and begin to read; returns at once."""
        self._thread.start()

    @property
    def exhausted(self) -> bool:
        """A topic never ends."""
        return False

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Give at most `limit` records, one list per partition in turn."""
        batches: list[list[Record]] = []
        with self._lock:
            self._slots = slots
            ready = self._ready.setdefault(slot, deque())
            while limit > 0 and ready:
                partition = ready.popleft()
                partition.queued = False
                if partition.revoked or not partition.buffer:
                    continue
                records = self._pop_from(partition, limit)
                limit -= len(records)
                batches.append(records)
                if partition.buffer:
                    partition.queued = True
                    ready.append(partition)
        return batches

    def _pop_from(self, partition: _Partition, limit: int) -> list[Record]:
        buffer = partition.buffer
        if len(buffer) <= limit:
            records = list(buffer)
            buffer.clear()
        else:
            records = [buffer.popleft() for _ in range(limit)]
        # Counted in under the lock, so that a revoke either finds them in the buffer or in flight.
        size = self._flight.add((partition.lane, records[0].epoch), records)
        self._buffered_records -= len(records)
        self._buffered_size -= size
        return records

    def commit(self, watermarks: list[Watermark]) -> None:
        """Note watermarks; the thread commits them soon."""
        with self._lock:
            for lane, epoch, offset in watermarks:
                self._finished_since_commit += max(1, offset - self._positions.get(lane, (epoch, offset - 1))[1])
                self._positions[lane] = (epoch, offset)
                self._dirty.add(lane)

    def close(self) -> None:
        """Commit what was noted, leave the group, end the thread; safe to call twice and before start."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def statistics(self) -> ReaderStatistics:
        """Buffered records and bytes, and the lag of each assigned partition that has a position."""
        consumer = self._consumer
        lag: dict[Lane, int] = {}
        with self._lock:
            positions = {lane: self._positions[lane][1] for lane in self._partitions if lane in self._positions}
            queued = {lane: len(partition.buffer) for lane, partition in self._partitions.items()}
        if consumer is not None and not self._closing.is_set():
            for lane, position in positions.items():
                high = _high_watermark(consumer, lane)
                if high >= 0:
                    lag[lane] = max(0, high - position)
        return ReaderStatistics(queued, lag)

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._consumer = Consumer(
                {**self._settings.properties, "error_cb": self._on_error, "on_commit": self._on_commit}
            )
            self._consumer.subscribe(
                list(self._settings.topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._closing.is_set():
                self._turn(self._consumer)
            self._commit_finally(self._consumer)
        except Exception as exc:
            self._control.fail(f"the consumer ended: {exc}")
        finally:
            if self._consumer is not None:
                self._consumer.close()

    def _turn(self, consumer: Consumer) -> None:
        self._commit_when_due(consumer)
        self._probe_when_down(consumer)
        if self._is_full() and not self._paused:
            self._wait_or_pause(consumer)
            return
        self._full_since = None
        if self._paused and self._has_room():
            self._set_paused(consumer, paused=False)
        self._resume_partitions(consumer)
        message = consumer.poll(_POLL_S)
        if message is None:
            return
        messages = [message]
        if self._settings.poll_records > 1:
            messages += consumer.consume(self._settings.poll_records - 1, 0)
        self._buffer(consumer, messages)

    # --- intake ---------------------------------------------------------------------------------

    def _buffer(self, consumer: Consumer, messages: Iterable[Message]) -> None:
        topic, number, partition = None, -1, None
        records: list[Record] = []
        now = time.monotonic()
        for message in messages:
            if message.error() is not None:
                self._report(message.error())
                continue
            if message.partition() != number or message.topic() != topic:
                self._append(consumer, partition, records)
                topic, number, records = message.topic(), message.partition(), []
                partition = self._partitions.get((topic, number))  # None: revoked meanwhile
            if partition is None:
                continue
            offset = message.offset()
            if offset <= partition.last_offset:
                self._append(consumer, partition, records)
                records = []
                self._rewind(partition)
            records.append(
                Record(
                    topic,
                    number,
                    offset,
                    message.value() or b"",
                    message.key(),
                    message.timestamp()[1],
                    message.headers(),
                    None,
                    partition.epoch,
                    partition.last_offset,
                    FULL_CREDIT,
                    now,
                )
            )
            partition.last_offset = offset
        self._append(consumer, partition, records)
        if not self._up:
            self._set_up(up=True)

    def _append(self, consumer: Consumer, partition: _Partition | None, records: list[Record]) -> None:
        if partition is None or not records:
            return
        size = sum([record.size for record in records])
        with self._lock:
            partition.buffer.extend(records)
            self._buffered_records += len(records)
            self._buffered_size += size
            if not partition.queued:
                partition.queued = True
                slot = partition.lane[1] % self._slots
                self._ready.setdefault(slot, deque()).append(partition)
        if len(partition.buffer) >= self._settings.buffer_records_per_partition and not partition.paused:
            partition.paused = True
            consumer.pause([TopicPartition(*partition.lane)])
        self._bus.emit(RecordsConsumed(partition.lane, len(records), size))

    def _rewind(self, partition: _Partition) -> None:
        """The log was truncated or the offset reset: from here on it is another assignment."""
        with self._lock:
            self._flight.fence([(partition.lane, partition.epoch)])
            for record in partition.buffer:
                self._buffered_records -= 1
                self._buffered_size -= record.size
            partition.buffer.clear()
            partition.epoch = self._next_epoch()
            partition.last_offset = -1

    def _is_full(self) -> bool:
        return self._buffered_size >= self._settings.buffer_size

    def _has_room(self) -> bool:
        return self._buffered_size <= self._settings.buffer_size * _RESUME_AT

    def _wait_or_pause(self, consumer: Consumer) -> None:
        now = time.monotonic()
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < _PAUSE_AFTER_S:
            self._closing.wait(_FULL_WAIT_S)
        else:
            self._set_paused(consumer, paused=True)

    def _set_paused(self, consumer: Consumer, *, paused: bool) -> None:
        """Pause all partitions, or resume those whose own buffers have room."""
        self._paused = paused
        lanes = [partition.lane for partition in self._partitions.values() if not partition.paused]
        targets = [TopicPartition(*lane) for lane in lanes]
        if targets:
            (consumer.pause if paused else consumer.resume)(targets)
        self._bus.emit(IntakePaused(paused, self._flight.records))

    def _resume_partitions(self, consumer: Consumer) -> None:
        if self._paused:
            return
        limit = self._settings.buffer_records_per_partition * _RESUME_AT
        for partition in self._partitions.values():
            if partition.paused and len(partition.buffer) <= limit:
                partition.paused = False
                consumer.resume([TopicPartition(*partition.lane)])

    # --- rebalance ------------------------------------------------------------------------------

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        lanes = tuple((item.topic, item.partition) for item in assigned)
        with self._lock:
            for lane in lanes:
                self._partitions[lane] = _Partition(lane, self._next_epoch())
        if self._paused and lanes:
            consumer.incremental_assign(assigned)
            consumer.pause(assigned)
        self._bus.emit(PartitionsAssigned(lanes, len(self._partitions)))

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        taken = self._take_away(revoked)
        started = time.monotonic()
        budget_s = 0.0 if self._closing.is_set() else min(self._settings.drain_timeout_s, self._control.budget_s)
        unfinished = self._flight.wait_idle(taken, budget_s)
        self._flight.fence(taken)
        lanes = tuple(lane for lane, _ in taken)
        offsets = self._offsets_of(lanes, taken)
        if offsets:
            self._commit_now(consumer, offsets)
        with self._lock:
            for lane in lanes:
                self._positions.pop(lane, None)
                self._dirty.discard(lane)
        if not self._closing.is_set():
            self._bus.emit(DrainFinished(unfinished, time.monotonic() - started))
        self._bus.emit(PartitionsRevoked(lanes, len(self._partitions), unfinished=unfinished))

    def _on_lost(self, _consumer: Consumer, lost: list[TopicPartition]) -> None:
        taken = self._take_away(lost)
        self._flight.fence(taken)
        lanes = tuple(lane for lane, _ in taken)
        with self._lock:
            for lane in lanes:
                self._positions.pop(lane, None)
                self._dirty.discard(lane)
        self._bus.emit(PartitionsRevoked(lanes, len(self._partitions), lost=True))

    def _take_away(self, items: Iterable[TopicPartition]) -> list[tuple[Lane, int]]:
        """Stop giving out records of partitions; returns their assignments."""
        taken = []
        with self._lock:
            for item in items:
                partition = self._partitions.pop((item.topic, item.partition), None)
                if partition is None:
                    continue
                partition.revoked = True
                self._buffered_records -= len(partition.buffer)
                self._buffered_size -= sum(record.size for record in partition.buffer)
                partition.buffer.clear()
                taken.append((partition.lane, partition.epoch))
        return taken

    # --- commit ---------------------------------------------------------------------------------

    def _commit_when_due(self, consumer: Consumer) -> None:
        if not self._dirty:
            return
        now = time.monotonic()
        waited = now - self._last_commit_at >= self._settings.commit_interval_s
        if not waited and self._finished_since_commit < self._settings.commit_max_offsets:
            return
        with self._lock:
            current = [(lane, partition.epoch) for lane, partition in self._partitions.items() if lane in self._dirty]
            self._dirty.clear()
            self._finished_since_commit = 0
        self._last_commit_at = now
        offsets = self._offsets_of((lane for lane, _ in current), current)
        if offsets:
            try:
                consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as exc:
                self._commit_refused(exc.args[0], offsets)

    def _offsets_of(self, lanes: Iterable[Lane], assignments: Iterable[tuple[Lane, int]]) -> list[TopicPartition]:
        """The noted positions of `lanes`, only those of their present assignment."""
        epochs = dict(assignments)
        with self._lock:
            return [
                TopicPartition(*lane, self._positions[lane][1])
                for lane in lanes
                if lane in self._positions and self._positions[lane][0] == epochs[lane]
            ]

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        refused = [item for item in offsets if error is not None or item.error is not None]
        accepted = [item for item in offsets if error is None and item.error is None]
        if refused:
            self._commit_refused(error or refused[0].error, refused)
        if accepted:
            self._report_committed(accepted)

    def _report_committed(self, offsets: Iterable[TopicPartition]) -> None:
        done = tuple(((item.topic, item.partition), item.offset) for item in offsets)
        self._bus.emit(Committed(done))

    def _commit_refused(self, error: Any, offsets: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._dirty.update(
                lane for item in offsets if (lane := (item.topic, item.partition)) in self._partitions
            )
        self._bus.emit(CommitFailed(str(error)))

    def _commit_now(self, consumer: Consumer, offsets: list[TopicPartition]) -> bool:
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exc:
            self._bus.emit(CommitFailed(str(exc.args[0])))
            return False
        self._report_committed(offsets)
        return True

    def _commit_finally(self, consumer: Consumer) -> None:
        with self._lock:
            current = [(lane, partition.epoch) for lane, partition in self._partitions.items()]
        offsets = self._offsets_of((lane for lane, _ in current), current)
        for attempt in range(_FINAL_COMMIT_ATTEMPTS):
            if not offsets or self._commit_now(consumer, offsets):
                return
            consumer.poll(0.2 * (attempt + 1))  # serves a rebalance that may be why it was refused

    # --- the brokers' health --------------------------------------------------------------------

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._control.fail(f"the consumer met a fatal error: {error}")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's public name for it
            self._set_up(up=False, reason=str(error))
        else:
            self._bus.emit(ConsumerError(str(error)))

    def _report(self, error: KafkaError) -> None:
        if error.fatal():
            self._control.fail(f"the consumer met a fatal error: {error}")
        elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._bus.emit(ConsumerError(str(error)))

    def _set_up(self, *, up: bool, reason: str = "") -> None:
        if up != self._up:
            self._up = up
            self._bus.emit(BrokerStateChanged(up, reason))

    def _probe_when_down(self, consumer: Consumer) -> None:
        if self._up or time.monotonic() - self._probed_at < _PROBE_S:
            return
        try:
            consumer.list_topics(timeout=1.0)
        except KafkaException:
            pass
        else:
            self._set_up(up=True)
        self._probed_at = time.monotonic()


def _high_watermark(consumer: Consumer, lane: Lane) -> int:
    try:
        watermarks = consumer.get_watermark_offsets(TopicPartition(*lane), cached=True)
    except (KafkaException, RuntimeError):  # not fetched yet, or closed meanwhile
        return -1
    return int(watermarks[1]) if watermarks else -1


