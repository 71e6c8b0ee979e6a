"""GroupReader: the reader of a Kafka consumer group's topics, with its own thread.

The thread is the only user of the consumer: it polls, buffers, pauses, commits (`offset_committer.py`) and answers
rebalances, so no commit can race a revoke. The engine's threads only pop buffered records.

A revoke drops the partition's buffer, then lets records in flight finish within the drain budget. It fences unfinished
records, which are neither delivered nor committed. Then the last watermark is committed synchronously, `on_revoke` runs
within the rest of the budget, and the partition is released.

A lost partition is fenced at once, and nothing is committed for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from math import inf

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.kafka_errors import CONNECTION, Severity, report, severity_of
from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.state_start import FIRST_START
from drakkar_flow.librdkafka import destroy_in_background
from drakkar_flow.model.record import FULL_CREDIT, Record, TopicPartition, Watermark
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import (
    ConsumerError,
    IntakePaused,
    RecordsConsumed,
    RecordsKnownFinished,
    RecordsTraced,
    TopicRecreated,
    traced_offsets,
)
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import Assignment, InFlight
from drakkar_flow.runtime.group.assignment_lifecycle import AssignmentLifecycle
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.broker_monitor import BrokerMonitor, answers_a_new_client
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.client_log import ClientLog
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.fetching import wake_fetchers
from drakkar_flow.runtime.group.group_state import GroupState, GroupStateSettings
from drakkar_flow.runtime.group.joining import Joining
from drakkar_flow.runtime.group.lag import Lag
from drakkar_flow.runtime.group.membership import FixedAssignment, GroupMembership, Membership
from drakkar_flow.runtime.group.offset_committer import FINAL_COMMIT_S, OffsetCommitter
from drakkar_flow.runtime.group.settings import GroupSettings
from drakkar_flow.runtime.group.starts import starting_reset, with_known_starts
from drakkar_flow.runtime.group.state_committer import StateCommitter
from drakkar_flow.runtime.group.topics import TopicWatch
from drakkar_flow.runtime.reader import ReaderStatistics
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["GroupReader", "GroupSettings"]


_POLL_S = 0.1  # the longest time the thread sleeps in poll: bounds how late a commit or a stop is noticed
_FULL_WAIT_S = 0.005  # between checks of full buffers
_PAUSE_AFTER_S = 1.0  # full for longer than this: pause. Pausing drops librdkafka's prefetch, so not before
_HOOK_S = 5.0  # the longest time on_revoke may delay the end
_LEAVE_S = 2.0  # the longest time leaving the group may take after it
_REST_S = 1.0  # of a stop's budget, for components that are closed after the reader
_OVERDUE_S = 5.0  # commits that are not accepted for so long hold back the intake
_ASK_S = 1.0  # the longest request about a partition that was recreated
_NEXT_START = "the next start of the flow decides where it reads on"


class GroupReader:
    """Reads the topics of a consumer group into bounded buffers and commits watermarks.

    It is a member of the group, or in fixed mode, given `positions`, reads its partitions from those of the
    recovery store and only commits to the group. Given `state`, it restores the state of its partitions before it reads
    them, and commits their offsets with it. `track` has the positions and the state of the flow.
    """

    def __init__(
        self,
        settings: GroupSettings,
        in_flight: InFlight,
        control: StopSignal,
        bus: Bus,
        track: Track,
        hooks: AssignmentHooks,
        positions: DurablePositions | None = None,
        state: GroupStateSettings | None = None,
    ) -> None:
        if positions is not None:
            settings = with_known_starts(settings)
        self._settings = settings
        self._in_flight = in_flight
        self._control = control
        self._bus = bus
        limits = (settings.buffer_records_per_partition, settings.buffer_size)
        unlimited = positions is not None and positions.exchanges
        self._buffers = Buffers(in_flight, *limits, inf) if unlimited else Buffers(in_flight, *limits)
        self._handover = AssignmentLifecycle(self._buffers, in_flight, bus, hooks)
        self._positions = CommitQueue(settings.commit_interval_s, settings.commit_max_offsets, time.monotonic())
        self._track = track
        self._offsets = OffsetCommitter(
            self._positions,
            self._buffers,
            bus,
            (positions or track).out_of_order,
            settings.metadata_size,
            self._report,
            marked=positions is not None,
        )
        self._state: GroupState | None = None
        if state is not None:
            parts = (self._positions, self._buffers)
            self._state = GroupState(state, track, bus, control, *parts, settings.metadata_size, self._report)
        self._commits: OffsetCommitter | StateCommitter = self._state.committer if self._state else self._offsets
        self._stored = None if positions is None else positions.stored
        self._full_since: float | None = None
        self._stirred = False  # the assignment has changed, or a pause has ended: fetchers may be asleep
        self._connection = BrokerMonitor(bus, partial(answers_a_new_client, settings.properties))
        self._joining = Joining(bus, str(settings.properties.get("group.id", "")), settings.session_timeout_s)
        self._watch = TopicWatch(settings.client or {}, settings.metadata_refresh_s, self._topics_read, bus)
        self._fresh: dict[TopicPartition, float] = {}  # when partitions without a committed offset were assigned
        self._lag = Lag(from_end=settings.properties.get("auto.offset.reset") == "latest")
        self._forgetful: list[Consumer] = []
        self._spent = False  # the consumer met a fatal error: the group may have given its partitions to another
        self._closing = threading.Event()
        self._members = self._membership(settings, positions)
        self._thread = threading.Thread(target=self._run, name="drakkar-reader", daemon=True)

    def _membership(self, settings: GroupSettings, positions: DurablePositions | None) -> Membership:
        if positions is None:
            return GroupMembership(settings.topics)
        refresh_s, read_offset = settings.metadata_refresh_s, self._buffers.read_offset
        return FixedAssignment(settings.topics, positions, self._closing, refresh_s, read_offset)

    # --- what the engine's threads call ---------------------------------------------------------

    def start(self) -> None:
        """Join the group and begin to read; returns at once."""
        self._thread.start()

    @property
    def exhausted(self) -> bool:
        """Always False: a topic never ends."""
        return False

    @property
    def uncommitted(self) -> int:
        """Number of finished records whose commits no longer reach the brokers, else 0.

        While commits succeed, their answers arrive late, behind the records that stream in. That must not hold back the
        intake. Nor do refused commits in fixed mode: rows hold the positions.
        """
        stuck = not self._members.keeps_partitions and self._positions.overdue(time.monotonic(), _OVERDUE_S)
        return self._positions.uncommitted if stuck else 0

    def pop(self, limit: int, slot: int, slots: int) -> list[list[Record]]:
        """Return at most `limit` records, one list per partition in turn."""
        return self._buffers.pop(limit, slot, slots)

    def commit(self, watermarks: list[Watermark]) -> None:
        """Note watermarks; the thread commits them soon."""
        self._positions.note(watermarks)

    def out_of_order_ranges(self, ranges: Mapping[Assignment, int]) -> None:
        """Note that the ranges finished beyond watermarks have changed; the thread commits them soon."""
        self._positions.out_of_order_ranges(ranges)
        self._buffers.out_of_order_ranges(ranges)

    def close(self) -> None:
        """Commit noted watermarks, leave the group, end the thread; safe to call twice and before start.

        Takes no longer than the rest of the stop budget. Without brokers the client library waits longer, for an answer
        to a commit that was given up; the daemon thread is left to that wait.
        """
        self._closing.set()
        self._watch.close()
        if self._thread.ident is not None:
            self._thread.join(min(FINAL_COMMIT_S + _HOOK_S + _LEAVE_S, self._control.close_budget_s(_REST_S)))

    def statistics(self) -> ReaderStatistics:
        """Return the records read ahead, the lag of the group, and the offsets not committed yet."""
        buffers = self._buffers
        positions = self._positions.of(buffers.assignments())
        partitions = {partition.topic_partition: partition for partition in buffers.partitions()}
        reached = {at: partition.reached(positions.get(at, 0)) for at, partition in partitions.items()}
        lag = self._lag.by_partition(reached)
        ranges = {at: partition.ranges for at, partition in partitions.items()}
        return ReaderStatistics(buffers.queued(), lag, buffers.oldest(), self._positions.uncommitted, ranges)

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._settings.client is not None:
                self._watch.start()
            if self._state is not None:
                self._state.start()
            while not self._closing.is_set():
                self._live(self._join())
                if self._forgetful:
                    destroy_in_background(self._forgetful)
                    self._forgetful = []
        except Exception as exc:  # the last act of the thread: the flow stops with the reason
            self._control.fail(f"the consumer ended: {report(exc)}")
        finally:
            if self._state is not None:
                self._state.close()

    def _join(self) -> Consumer:
        callbacks = {"error_cb": self._on_error, "on_commit": self._commits.on_commit}
        reset = starting_reset(self._settings, self._bus, "" if self._state is None else FIRST_START)
        consumer = Consumer({**self._settings.properties, **reset, **callbacks}, logger=ClientLog(self._bus))
        self._joining.begin(time.monotonic())
        for partition in self._buffers.partitions():  # those that a consumer before left
            partition.paused = False
        self._members.join(consumer, self._on_assign, self._on_revoke, self._on_lost)
        return consumer

    def _live(self, consumer: Consumer) -> None:
        """Read until the end, or until this consumer has forgotten its brokers and another must take over."""
        try:
            while not self._closing.is_set():
                if self._connection.forgotten(consumer, time.monotonic()):
                    self._bus.emit(ConsumerError("the consumer is replaced: it has forgotten its brokers"))
                    self._forgetful.append(consumer)
                    if not self._members.keeps_partitions:
                        self._lose_all(consumer)
                    return
                if self._spent:
                    self._lose_all(consumer)
                    self._closing.wait(_POLL_S)
                else:
                    self._turn(consumer)
            if self._state is not None:
                self._state.cancel()
            self._commits.commit_finally(consumer, self._control.close_budget_s(reserve_s=_LEAVE_S))
        finally:
            if not self._forgetful:  # it would wait for brokers that it can't find
                self._members.leave(consumer)
                consumer.close()

    def _turn(self, consumer: Consumer) -> None:
        now = time.monotonic()
        if self._state is not None:
            self._serve_state(consumer, self._state)
        if self._positions.due(now):
            self._commits.commit_soon(consumer, now)
        if self._lag.due(now):
            self._check_lag(consumer, now)
            self._joining.check(now)
            self._members.check(consumer, now)
        for topic, known_at, _ in self._watch.recreated():
            self._restart_topics(consumer, topic, known_at)
        if not self._hold_back(consumer, now):
            if self._stirred and self._connection.up:
                self._stirred = False
                wake_fetchers(consumer, self._buffers.assignments())
            message = consumer.poll(_POLL_S)
            if message is not None:
                # Before `consume`, which may serve a rebalance: it belongs to the present assignment.
                self._buffer([message])
                more = self._settings.poll_records - 1
                if more and (messages := consumer.consume(more, 0)):
                    self._buffer(messages)

    # --- intake ---------------------------------------------------------------------------------

    def _buffer(self, messages: Iterable[Message]) -> None:
        topic, number, partition = "", -1, None
        records: list[Record] = []
        known: dict[TopicPartition, int] = {}
        now = time.monotonic()
        for message in messages:
            if (error := message.error()) is not None:
                self._on_no_record(message, error)
                continue
            if message.partition() != number or message.topic() != topic:
                self._append(partition, records)
                topic, number, records = message.topic() or "", message.partition() or 0, []
                partition = self._buffers.get((topic, number))  # None: revoked meanwhile
            if partition is None:
                continue
            offset = message.offset() or 0
            if offset <= partition.read_offset:
                self._append(partition, records)
                records = []
                if not self._rewound(partition, offset):
                    continue
            partition.read_offset = offset
            if partition.base < 0:
                partition.base = offset
            if offset < partition.done_until and offset in partition.done:
                known[partition.topic_partition] = known.get(partition.topic_partition, 0) + 1
                continue
            value = message.value()
            records.append(
                Record(
                    topic,
                    number,
                    offset,
                    value or b"",
                    message.key(),
                    message.timestamp()[1],
                    message.headers(),  # type: ignore[arg-type]  # read from a broker they are a list
                    None,
                    partition.epoch,
                    partition.last_offset,
                    FULL_CREDIT,
                    now,
                    value is None,
                )
            )
            partition.last_offset = offset
        self._append(partition, records)
        for topic_partition, count in known.items():
            self._bus.emit(RecordsKnownFinished(topic_partition, count))
        self._connection.answered()

    def _on_no_record(self, message: Message, error: KafkaError) -> None:
        partition = self._buffers.get((message.topic() or "", message.partition() or 0))
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's public name for it
            self._watch.check_soon()
            self._report(error)
        elif partition is not None:
            partition.end = message.offset() or 0

    def _append(self, partition: Partition | None, records: list[Record]) -> None:
        if partition is not None and records:
            size = self._buffers.append(partition, records)
            at, first, last = partition.topic_partition, records[0].offset, records[-1].offset
            self._bus.emit(RecordsConsumed(at, len(records), size, first, last, partition.epoch))
            if self._bus.hears(RecordsTraced) and (traced := traced_offsets(records)):
                self._bus.emit(RecordsTraced(at, traced))

    def _hold_back(self, consumer: Consumer, now: float) -> bool:
        """Wait a moment when buffers are full; pause their partitions when that does not help."""
        for partition in self._buffers.partitions() if self._full_since is not None else ():
            if partition.paused and self._buffers.has_room(partition):
                self._pause(consumer, [partition], paused=False)
        over = [partition for partition in self._buffers.over() if not partition.paused]
        if not over:
            if not any(partition.paused for partition in self._buffers.partitions()):
                self._full_since = None
            return False
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < _PAUSE_AFTER_S:
            self._closing.wait(_FULL_WAIT_S)
            return True
        self._pause(consumer, over, paused=True)
        return False

    def _pause(self, consumer: Consumer, partitions: list[Partition], *, paused: bool) -> None:
        (consumer.pause if paused else consumer.resume)([KafkaPartition(*item.topic_partition) for item in partitions])
        for partition in partitions:
            partition.paused = paused
        self._stirred |= not paused
        self._bus.emit(IntakePaused(any(item.paused for item in self._buffers.partitions()), self._in_flight.records))

    # --- rebalance ------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: list[KafkaPartition]) -> None:
        self._stirred = True
        topic_partitions = _topic_partitions(assigned)
        if self._state is not None:
            self._connection.answered()
            self._state.assign(consumer, assigned)
            self._joining.end()
            self._watch.check_soon()
            return
        committed = self._offsets.begin(consumer, assigned)
        known = committed | self._members.known(topic_partitions)
        self._lag.forget(topic_partitions)
        consumer.resume(assigned)  # librdkafka keeps the pause of a partition that was paused when it left
        self._connection.answered()
        self._handover.begin(topic_partitions, known)
        if self._track.ledgers is not None and not self._stores_positions:  # state in memory ends with the assignment
            for at, epoch in self._buffers.assignments().items():
                if at in topic_partitions:
                    self._track.ledgers.load(at, {}, epoch)
        self._commit_stored(topic_partitions, committed)
        if topic_partitions:
            self._joining.end()
        self._fresh = {
            topic_partition: now
            for topic_partition, now in self._fresh.items()
            if topic_partition not in topic_partitions
        }
        self._fresh |= dict.fromkeys(set(topic_partitions) - known.keys(), time.monotonic())
        self._watch.check_soon()

    def _serve_state(self, consumer: Consumer, state: GroupState) -> None:
        """Take the outcome of a transaction, and begin to read partitions whose state was restored."""
        state.committer.serve()
        if not (ready := state.ready(consumer)):
            return
        topic_partitions = tuple(each.restored.at for each in ready)
        known = {each.restored.at: (each.start.offset, each.start.finished) for each in ready if each.start.offset >= 0}
        self._lag.forget(topic_partitions)
        self._handover.begin(topic_partitions, known)
        for each in ready:
            partition = self._buffers.get(each.restored.at)
            assert partition is not None
            state.load(partition, each)

    def _commit_stored(
        self, topic_partitions: Iterable[TopicPartition], committed: Mapping[TopicPartition, tuple[int, OffsetRanges]]
    ) -> None:
        """Commit positions of the store that the commits are behind: a crash came between the row and its commit."""
        if self._stored is None:
            return
        epochs = self._buffers.assignments()
        stored = {at: self._stored(at) for at in topic_partitions}
        behind = {at: offset for at, offset in stored.items() if offset > committed.get(at, (0,))[0]}
        self._positions.note([Watermark(at, epochs[at], offset) for at, offset in behind.items()])

    def _on_revoke(self, consumer: Consumer, revoked: list[KafkaPartition]) -> None:
        self._stirred = True
        closing = self._closing.is_set()
        budget_s = min(_HOOK_S if closing else self._settings.drain_timeout_s, self._control.budget_s)

        def last_commit(partitions: list[Partition]) -> None:
            self._commits.commit_now(consumer, partitions)
            self._forget(partition.topic_partition for partition in partitions)

        drain_s = None if closing else budget_s
        topic_partitions, before_fence = _topic_partitions(revoked), None
        if self._state is not None:
            self._state.cancel(topic_partitions)
            before_fence = self._state.committer.before_fence
        self._handover.end(topic_partitions, last_commit, drain_s=drain_s, hook_s=budget_s, before_fence=before_fence)

    def _on_lost(self, _consumer: Consumer, lost: list[KafkaPartition]) -> None:
        self._stirred = True
        self._connection.doubt()
        if self._state is not None:
            self._state.cancel(_topic_partitions(lost))
        self._forget(self._handover.lose(_topic_partitions(lost)))

    def _topics_read(self) -> set[str]:
        state = set() if self._state is None else {self._state.topic}
        return {topic for topic, _ in self._buffers.assignments()} | state

    def _restart_topics(self, consumer: Consumer, topic: str, known_at: float) -> None:
        """Read a recreated topic from its beginning: no position in the former one is valid.

        Partitions that were assigned without a position after the former topic was last seen begin there anyway.
        In fixed mode, and with state, the flow ends: position and state are those of the former topic.
        """
        if self._stores_positions:
            self._control.fail(f"topic {topic!r} was deleted and created again; {_NEXT_START}")
            return
        partitions = [each for each in self._buffers.partitions() if each.topic_partition[0] == topic]
        partitions = [each for each in partitions if self._fresh.get(each.topic_partition, 0.0) <= known_at]
        topic_partitions = tuple(each.topic_partition for each in partitions)
        self._forget(topic_partitions)
        self._commits.forget(topic_partitions)
        for partition in partitions:
            self._buffers.rewind(partition)
            with suppress(KafkaException):  # the new topic has fewer partitions
                low, _ = consumer.get_watermark_offsets(KafkaPartition(*partition.topic_partition), timeout=_ASK_S)
                consumer.seek(KafkaPartition(*partition.topic_partition, OFFSET_BEGINNING))
                self._positions.note([Watermark(partition.topic_partition, partition.epoch, max(0, low))])
        if topic_partitions:
            self._bus.emit(TopicRecreated(topic, topic_partitions))

    def _rewound(self, partition: Partition, offset: int) -> bool:
        """Begin a new assignment in a log that went back; False in fixed mode and with state, where the flow ends.

        There the state counts the records of the former log, and must not count those of another.
        """
        if not self._stores_positions:
            self._buffers.rewind(partition)
            return True
        topic, number = partition.topic_partition
        what = f"the log of {topic}-{number} went back from offset {partition.read_offset} to {offset}"
        self._control.fail(f"{what}: it was truncated, or its topic was created again; {_NEXT_START}")
        return False

    @property
    def _stores_positions(self) -> bool:
        return self._members.keeps_partitions or self._state is not None

    def _lose_all(self, consumer: Consumer) -> None:
        if self._state is not None:
            self._state.cancel()
        if left := [KafkaPartition(*topic_partition) for topic_partition in self._buffers.assignments()]:
            self._on_lost(consumer, left)

    def _forget(self, topic_partitions: Iterable[TopicPartition]) -> None:
        topic_partitions = list(topic_partitions)
        self._positions.forget(topic_partitions)
        self._lag.forget(topic_partitions)

    # --- the brokers' health --------------------------------------------------------------------

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's public name for it
            self._connection.down(report(error))
        elif error.code() not in CONNECTION or self._connection.up:  # else the log already reports that they are down
            self._connection.doubt()
            self._report(error)

    def _report(self, error: KafkaError) -> None:
        severity = severity_of(error)
        if severity is Severity.RECOVERABLE:
            self._bus.emit(ConsumerError(report(error)))
        else:
            self._spent = self._spent or severity is Severity.FATAL
            self._control.fail(f"the consumer can't go on: {report(error)}")

    def _check_lag(self, consumer: Consumer, now: float) -> None:
        """Note the ends of partitions, and pass over markers and aborted records there: they need no finishing.

        Fixed mode commits what rows say, and no row has passed them.
        """
        partitions = self._buffers.partitions()
        self._lag.check(consumer, partitions, now, up=self._connection.up)
        positions = self._positions.of(self._buffers.assignments())
        passed = []
        for partition in partitions:
            at = partition.reached(positions.get(partition.topic_partition) or partition.base)
            if at == partition.read_offset + 1 and partition.end > max(at, 0):
                partition.read_offset = partition.end - 1  # the next record comes after them
                passed.append(Watermark(partition.topic_partition, partition.epoch, partition.end))
        if not self._members.keeps_partitions:
            self._positions.note(passed)


def _topic_partitions(items: Iterable[KafkaPartition]) -> tuple[TopicPartition, ...]:
    return tuple((item.topic, item.partition) for item in items)
