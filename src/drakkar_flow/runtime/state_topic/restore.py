"""Restorer: reads the state of assigned partitions on a separate thread, while the other partitions go on.

Order of a pass, which makes it exact: first the group's offsets, where offsets of open transactions are waited for;
then the ends of the state partitions; then everything before these ends. A transaction whose offsets count has written
its messages before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # exported there

from drakkar_flow.kernel.kafka_errors import Severity, report, severity_of
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.kernel.recovery_start import Log, StartRefused
from drakkar_flow.kernel.state_messages import Position, StateMessageError, StoredPartition, read_messages
from drakkar_flow.kernel.state_start import CommittedOffset, StatePolicy, StateStart, decide_state_start
from drakkar_flow.kernel.stored_values import unreadable_values
from drakkar_flow.librdkafka import destroy_in_background
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import StateCodec
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import ConsumerError
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.recovery.brokers import offsets_of, topic_ids_of
from drakkar_flow.runtime.state_topic.reading import Contents, read_partitions, reading_client
from drakkar_flow.runtime.state_topic.topic import StateTopic

__all__ = ["Restored", "Restorer", "StateOwner"]

_ASK_S = 2.0  # one request for offsets; those of an open transaction are asked for again
_AGAIN_S = 0.5  # between two attempts
_SAY_AFTER_S = 3.0  # a wait for an open transaction is logged after it


class StateOwner(NamedTuple):
    """The flow whose state it is: group, flow, and the codec of each step with state."""

    group: str
    flow: str
    codecs: Mapping[str, StateCodec]


class Restored(NamedTuple):
    """State of a partition: where it starts, or why it must not.

    - `state`: final values at the start.
    - `removed`: keys that the state topic still has.
    - `topic_id`: the present id of the source topic.
    - `entries`, `took_s`: messages and seconds of the pass that read it, with all partitions of the pass.
    """

    at: TopicPartition
    start: StateStart | StartRefused
    state: dict[StateKey, bytes]
    removed: Collection[StateKey]
    topic_id: str
    entries: int
    took_s: float


class Restorer:
    """Restores partitions; its methods are called by the reader's thread and never block.

    Partitions that are asked for while a pass runs are restored together in the next one. While the brokers do not
    answer, a pass is repeated.

    Args:
        topic: the state topic.
        owner: the flow.
        policy: decides where offset and state disagree.
        bus: gets a ConsumerError for each attempt that fails.
    """

    def __init__(self, topic: StateTopic, owner: StateOwner, policy: StatePolicy, bus: Bus) -> None:
        self._topic = topic
        self._owner = owner
        self._policy = policy
        self._bus = bus
        self._changed = threading.Condition()
        self._tokens = count(1)
        self._wanted: dict[TopicPartition, int] = {}
        self._waiting: dict[TopicPartition, int] = {}  # those of the next pass
        self._restored: list[tuple[int, Restored]] = []
        self._closing = False
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._thread = threading.Thread(target=self._run, name="drakkar-restore", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Restore partitions that were assigned."""
        with self._changed:
            for at in topic_partitions:
                self._wanted[at] = self._waiting[at] = next(self._tokens)
            self._changed.notify_all()

    def cancel(self, topic_partitions: Iterable[TopicPartition] | None = None) -> None:
        """Forget partitions that left, by default all; a pass for none but these ends early."""
        with self._changed:
            for at in list(self._wanted) if topic_partitions is None else topic_partitions:
                self._wanted.pop(at, None)
                self._waiting.pop(at, None)

    def done(self) -> list[Restored]:
        """Return the partitions restored since the last call that are still wanted."""
        if not self._restored:
            return []
        with self._changed:
            found, self._restored = self._restored, []
            return [each for token, each in found if self._wanted.get(each.at) == token]

    def taken(self, at: TopicPartition) -> None:
        """Note that a restored partition is read now."""
        with self._changed:
            self._wanted.pop(at, None)

    def again(self, restored: Restored) -> None:
        """Return a restored partition once more from `done`: it can't be read yet."""
        with self._changed:
            if (token := self._wanted.get(restored.at)) is not None:
                self._restored.append((token, restored))

    def close(self) -> None:
        """End the thread; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    break
                batch, self._waiting = self._waiting, {}
            self._restore(batch)
        self._let_go()

    def _restore(self, batch: dict[TopicPartition, int]) -> None:
        """Restore partitions; tries until it succeeds, or none of them is wanted any more."""
        started = time.monotonic()
        while wanted := self._still_wanted(batch):
            try:
                found = self._pass(wanted, batch, started)
            except (KafkaException, TimeoutError) as exc:
                self._let_go()
                if not _is_final(exc):
                    self._bus.emit(ConsumerError(f"state can't be read yet: {report(exc)}"))
                    with self._changed:
                        self._changed.wait(_AGAIN_S)
                    continue
                found = self._unusable(wanted, f"can't be read: {report(exc)}")
            except _Deleted:
                found = self._unusable(wanted, "was deleted; the next start makes a new one")
            except StateMessageError as exc:
                found = self._unusable(wanted, f"has {exc}; set runtime.state.topic to another topic")
            except Exception as exc:  # a bug: without an answer the partitions would wait without end
                found = self._unusable(wanted, f"can't be restored: {describe(exc)}")
            with self._changed:
                if found is None:
                    self._changed.wait(_AGAIN_S)
                    continue
                self._restored += [(batch[each.at], each) for each in found]
            return

    def _still_wanted(self, batch: Mapping[TopicPartition, int]) -> list[TopicPartition]:
        with self._changed:
            return [] if self._closing else [at for at, token in batch.items() if self._wanted.get(at) == token]

    def _pass(
        self, wanted: list[TopicPartition], batch: Mapping[TopicPartition, int], started: float
    ) -> list[Restored] | None:
        """Restore partitions once; None if offset and state are of different instants.

        Then another member commits: this one has lost the partitions, and does not know it yet.
        """
        if self._consumer is None:
            self._consumer = reading_client(self._topic.client, self._owner.group)
        if self._admin is None:
            self._admin = AdminClient({**self._topic.client, "log_level": 0})
        committed = self._committed(self._consumer, wanted, batch)
        sources = [KafkaPartition(*at) for at in wanted]
        topics = sorted({topic for topic, _ in wanted})
        ids = topic_ids_of(self._admin, topics)
        starts = offsets_of(self._admin, sources, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = offsets_of(self._admin, sources, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        contents = self._read(self._admin, self._consumer, {number for _, number in wanted}, batch)
        if contents is None or committed is None:
            return []
        stored = {number: read_messages(values, topics) for number, values in contents.values.items()}
        differing = [at for at in wanted if _offset_of(stored[at[1]][at[0]].position) != _offset_of(committed.get(at))]
        if differing and self._committed(self._consumer, differing, batch) != {
            at: committed[at] for at in differing if at in committed
        }:
            return None
        took_s = time.monotonic() - started
        return [
            self._decided(
                at,
                stored[at[1]][at[0]],
                committed.get(at),
                (starts[at], ends[at], ids[at[0]]),
                (contents.entries, took_s),
            )
            for at in wanted
        ]

    def _committed(
        self, consumer: Consumer, wanted: list[TopicPartition], batch: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, CommittedOffset] | None:
        """Return the group's offsets once no transaction is open that may change them; None if cancelled."""
        started, logged = time.monotonic(), False
        while self._still_wanted(batch):
            found = None
            try:
                found = consumer.committed([KafkaPartition(*at) for at in wanted], _ASK_S)
            except KafkaException as exc:
                if exc.args[0].code() not in _OPEN:
                    raise
            if found is not None and not any(each.error for each in found):
                return {
                    (each.topic, each.partition): CommittedOffset(each.offset, each.metadata or "")
                    for each in found
                    if each.offset >= 0
                }
            for each in found or ():
                if each.error is not None and each.error.code() not in _OPEN:
                    raise KafkaException(each.error)
            if not logged and time.monotonic() - started > _SAY_AFTER_S:
                logged = True
                what = "the group's offsets are not known yet: a member that ended has left a transaction open"
                self._bus.emit(ConsumerError(f"{what}, which the brokers abort after at most 20 s"))
            with self._changed:
                self._changed.wait(0.05)
        return None

    def _read(
        self, admin: AdminClient, consumer: Consumer, numbers: Collection[int], batch: Mapping[TopicPartition, int]
    ) -> Contents | None:
        name = self._topic.name
        try:
            self._topic.grow(admin, max(numbers) + 1)
            partitions = [KafkaPartition(name, number) for number in numbers]
            ends = offsets_of(admin, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            wanted = {number: ends[name, number] for number in numbers}
            return read_partitions(consumer, name, wanted, lambda: not self._still_wanted(batch))
        except KafkaException as exc:
            if exc.args[0].code() in _UNKNOWN:
                raise _Deleted from exc
            raise

    def _decided(
        self,
        at: TopicPartition,
        stored: StoredPartition,
        committed: CommittedOffset | None,
        log: tuple[int, int, str],
        measured: tuple[int, float],
    ) -> Restored:
        position, state = stored
        start, end, topic_id = log
        owner = self._owner
        if position is not None and (position.group, position.flow) != (owner.group, owner.flow):
            what = f"the state topic {self._topic.name!r} belongs to flow {position.flow!r} of group {position.group!r}"
            return self._refused(at, StartRefused(what, "set runtime.state.topic to another topic"))
        same = position is None or not topic_id or not position.topic_id or topic_id == position.topic_id
        decided = decide_state_start(at, position, committed, Log(start, end, same), self._policy)
        if isinstance(decided, StateStart) and decided.keeps_state:
            checked = self._checked(at, state)
            if isinstance(checked, StartRefused):
                return self._refused(at, checked)
            removed = checked
        else:
            removed = set(state)
        kept = {key: value for key, value in state.items() if key not in removed} if removed else state
        return Restored(at, decided, kept, removed, topic_id, *measured)

    def _checked(self, at: TopicPartition, state: Mapping[StateKey, bytes]) -> set[StateKey] | StartRefused:
        """Check stored values: the flow has their steps, and its models can read them; returns those to remove."""
        codecs, name = self._owner.codecs, f"{at[0]}-{at[1]}"
        for step, key, error in unreadable_values(codecs, [state], int(time.time() * 1000)):
            return StartRefused(f"{name}: state of {step}, key {key!r}: {error}", "")
        # A step may lose its timers and keep its state.
        unknown = {key for key in state if key[0] not in codecs and key[0].partition(".")[0] not in codecs}
        if not unknown or self._policy.on_mismatch == "keep":
            return set()
        if self._policy.on_mismatch == "reset":
            return unknown
        steps = ", ".join(sorted({step for step, _ in unknown}))
        remedy = (
            "give the step its former name; or start once with runtime.state.on_mismatch: keep (they stay, unused) or "
            "reset (they are deleted)"
        )
        return StartRefused(f"{name}: the state topic has values of {steps}, which the flow lacks", remedy)

    def _unusable(self, wanted: Iterable[TopicPartition], why: str) -> list[Restored]:
        what = f"the state topic {self._topic.name!r} {why}"
        return [self._refused(at, StartRefused(what, "")) for at in wanted]

    @staticmethod
    def _refused(at: TopicPartition, refused: StartRefused) -> Restored:
        return Restored(at, refused, {}, (), "", 0, 0.0)

    def _let_go(self) -> None:
        """Replace the clients at the next pass: they may have lost the brokers."""
        clients: list[Any] = [each for each in (self._consumer, self._admin) if each is not None]
        self._consumer = self._admin = None
        if clients:
            destroy_in_background(clients)


_OPEN = frozenset(
    {
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka's public name for it
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
    }
)
"""Errors of a request for offsets that a transaction is open for; librdkafka asks again until it runs out of time."""


_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001


def _offset_of(position: Position | CommittedOffset | None) -> int | None:
    return None if position is None else position.offset


class _Deleted(Exception):
    """The state topic does not exist any more."""


def _is_final(error: BaseException) -> bool:
    """Return True if a new attempt can't help, for example because a right is missing."""
    cause = error.args[0] if error.args else None
    return isinstance(cause, KafkaError) and severity_of(cause) is Severity.CONFIGURATION
