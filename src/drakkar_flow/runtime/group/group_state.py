"""State of a group's member: assigned partitions are restored before they are read, and committed by transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.recovery_start import StartRefused
from drakkar_flow.kernel.state_start import StatePolicy, StateStart
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.state import StateRestored, StateStartDecided
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.group.buffers import Buffers, Partition
from drakkar_flow.runtime.group.commit_queue import CommitQueue
from drakkar_flow.runtime.group.state_committer import StateCommitter
from drakkar_flow.runtime.state_topic.restore import Restored, Restorer, StateOwner
from drakkar_flow.runtime.state_topic.topic import StateTopic
from drakkar_flow.runtime.state_topic.transactions import Outcome, Transactions
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["GroupState", "GroupStateSettings", "Ready"]


class GroupStateSettings(NamedTuple):
    """Settings of state in group mode."""

    topic: StateTopic
    owner: StateOwner
    policy: StatePolicy
    transactional_id: str


class Ready(NamedTuple):
    """A restored partition that the next poll reads."""

    restored: Restored
    start: StateStart


class GroupState:
    """Restores the partitions of a consumer. Its methods are called by the reader's thread.

    Args:
        settings: state topic, owner and policy.
        track: its ledgers get the restored state, and have the changes.
        bus: gets StateRestored, and StateStartDecided where the start is not the normal one.
        control: stops the flow when a partition must not be read, or the state can't be written.
        positions, buffers, metadata_size: those of the committer.
        on_error: gets errors of commits that end this consumer.
    """

    def __init__(
        self,
        settings: GroupStateSettings,
        track: Track,
        bus: Bus,
        control: StopSignal,
        positions: CommitQueue,
        buffers: Buffers,
        metadata_size: int,
        on_error: Callable[[KafkaError], None],
    ) -> None:
        self.topic = settings.topic.name
        self._transactions = Transactions(settings.topic, settings.transactional_id)
        owner = (settings.owner.group, settings.owner.flow)
        self.committer = StateCommitter(
            positions, buffers, bus, track, self._transactions, owner, metadata_size, self._failed
        )
        """Commits offsets and state."""
        self._on_error = on_error
        self._restorer = Restorer(settings.topic, settings.owner, settings.policy, bus)
        self._track = track
        self._bus = bus
        self._control = control

    def start(self) -> None:
        """Start the threads."""
        self._transactions.start()
        self._restorer.start()

    def close(self) -> None:
        """End the threads; returns at once."""
        self._restorer.close()
        self._transactions.close()

    def assign(self, consumer: Consumer, assigned: list[KafkaPartition]) -> None:
        """Take partitions without reading them, and begin to restore their state. The others go on."""
        consumer.incremental_assign(assigned)
        if assigned:
            consumer.pause(assigned)
            self._restorer.begin((each.topic, each.partition) for each in assigned)

    def cancel(self, topic_partitions: Iterable[TopicPartition] | None = None) -> None:
        """Forget partitions that leave before they are restored, by default all."""
        self._restorer.cancel(topic_partitions)

    def ready(self, consumer: Consumer) -> list[Ready]:
        """Return restored partitions, resumed at their start. One that must not be read stops the flow."""
        found = []
        for restored in self._restorer.done():
            if isinstance(restored.start, StartRefused):
                self._restorer.taken(restored.at)
                what, remedy = restored.start
                self._control.fail(f"{what}; {remedy}" if remedy else what)
            elif self._resume(consumer, restored.at, restored.start.offset):
                self._restorer.taken(restored.at)
                found.append(Ready(restored, restored.start))
            else:
                self._restorer.again(restored)
        return found

    def load(self, partition: Partition, ready: Ready) -> None:
        """Begin an assignment with restored state, before its first record is read."""
        restored, start = ready
        assert self._track.ledgers is not None
        self._track.ledgers.load(restored.at, restored.state, partition.epoch)
        self._track.put_back(restored.at, partition.epoch, restored.removed)
        self.committer.begin(partition, restored.topic_id, write=bool(start.warning))
        if start.warning:
            self._bus.emit(StateStartDecided(restored.at, start.warning))
        self._bus.emit(StateRestored(restored.at, len(restored.state), restored.entries, restored.took_s))

    def _failed(self, outcome: Outcome) -> None:
        if outcome.stops:
            self._control.fail(f"the state can't be committed: {outcome.error}")
        elif outcome.cause is not None:
            self._on_error(outcome.cause)

    @staticmethod
    def _resume(consumer: Consumer, at: TopicPartition, offset: int) -> bool:
        """Resume at the start; False if the consumer has not begun with the partition yet."""
        partition = KafkaPartition(*at, offset)
        consumer.resume([partition])
        if offset < 0:
            return True
        try:
            consumer.seek(partition)  # after `resume`, which wakes up no thread: the first fetch would wait up to 1 s
        except KafkaException as exc:
            if exc.args[0].code() in (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS):  # noqa: SLF001
                consumer.pause([partition])
                return False
            raise
        return True
