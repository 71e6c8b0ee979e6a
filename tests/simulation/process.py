"""One process of the simulation: the library's components as `engine/build.py` joins them, with simulated ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import pytest

from drakkar_flow.compiler.lower import compile_flow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.engine.entrypoint import stream_of
from drakkar_flow.engine.executors import intake_of
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import decode_rows
from drakkar_flow.kernel.recovery_start import Log, Start, StartPolicy, committed_of, decide_start
from drakkar_flow.kernel.slots import slot_of
from drakkar_flow.kernel.state_start import StatePolicy
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.source import PartitionsAssigned, PartitionsRevoked
from drakkar_flow.observe.events.state import StateRestored
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import Assignment, InFlight
from drakkar_flow.runtime.acknowledgement.tracker import SettleResult
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.group import group_state
from drakkar_flow.runtime.group import reader as reader_module
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.group_state import GroupStateSettings
from drakkar_flow.runtime.group.reader import GroupReader, GroupSettings
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.state_topic import reading, restore
from drakkar_flow.runtime.state_topic import transactions as stored
from drakkar_flow.runtime.state_topic.restore import StateOwner
from drakkar_flow.runtime.state_topic.topic import StateTopic
from drakkar_flow.runtime.state_topic.transactions import Transactions
from drakkar_flow.runtime.stop_signal import StopSignal
from simulation.broker import TOPIC, Brokers, SimulatedConsumer
from simulation.engine import Engine, Rows
from simulation.facts import Course, Facts
from simulation.loop import SimulatedLoopThread
from simulation.scheduler import Actor, Crash, Scheduler
from simulation.state_brokers import STATE_TOPIC, StateBrokers, Transaction
from simulation.state_clients import GroupMember, SimulatedAdmin, SimulatedProducer, SimulatedReader
from simulation.stdlib import Threading
from simulation.steps_flow import steps_flow
from simulation.targets import SimulatedDeadLetters, SimulatedSink
from simulation.tasks_flow import SimulatedExecutor, tasks_handler

__all__ = ["Process", "World"]


@dataclass
class World:
    """What outlives the processes, and the settings that all of them have."""

    seed: int
    scheduler: Scheduler
    facts: Facts
    brokers: Brokers
    sinks: dict[str, SimulatedSink]
    dead_letters: SimulatedDeadLetters
    config: DrakkarConfig
    fixed: bool
    has_state: bool
    has_tasks: bool
    rows: Rows = field(default_factory=dict)
    """Rows on disk."""
    state: StateBrokers | None = None
    """The state topic and the coordinator, in group mode with state."""
    is_static: bool = False
    """True if all processes have the same transactional id."""

    @property
    def positions(self) -> dict[TopicPartition, Any]:
        """Rows on disk, by topic partition."""
        found: dict[TopicPartition, Any] = {}
        for (step, _), row in self.rows.items():
            if step.endswith(".track") and row is not None:
                found.update(decode_rows(row))
        return found


class _Track(Track):
    """Shows acknowledgements to the facts before the tracker counts them."""

    def __init__(self, facts: Facts, *, records_changes: bool) -> None:
        super().__init__(records_changes=records_changes)
        self._facts = facts

    def settle(self, acks: list[Ack]) -> list[SettleResult]:
        self._facts.credited(acks)
        return super().settle(acks)


class _Transactions(Transactions):
    """Sorts what the library takes from sets, so that a seed does the same in each process."""

    def submit(self, transaction: stored.Transaction) -> None:
        changes = sorted(
            [each._replace(values=dict(sorted(each.values.items()))) for each in transaction.changes],
            key=lambda change: change.at,
        )
        offsets = sorted(transaction.offsets, key=lambda each: each.partition)
        super().submit(transaction._replace(changes=changes, offsets=offsets))


class _InFlight(InFlight):
    """Checks that no more records leave than have entered."""

    def __init__(self, facts: Facts, max_records: int) -> None:
        super().__init__(max_records, 64 << 20)
        self._facts = facts
        self._entered: dict[Assignment, int] = {}

    def add(self, assignment: Assignment, records: Any) -> int:
        self._entered[assignment] = self._entered.get(assignment, 0) + len(records)
        return super().add(assignment, records)

    def release(self, assignment: Assignment, count: int, size: int) -> None:
        left = self._entered[assignment] = self._entered.get(assignment, 0) - count
        if left < 0:
            raise self._facts.scheduler.fail(f"{-left} records more of {assignment} are finished than were read")
        super().release(assignment, count, size)


class Process:
    """One life of the flow, from its start to its end or its crash. `run` is its reader's thread."""

    def __init__(self, world: World, threads: Threading, chance: random.Random) -> None:
        self._world = world
        self._facts = world.facts
        self._scheduler = world.scheduler
        self._epochs = 0
        self._closing = False
        self._threads = threads
        self.bugs: list[str] = []
        world.facts.begin_life()
        self._scheduler.note("process {} begins", world.facts.life)
        self.control = StopSignal(chance.choice((0.5, 5.0, 30.0)))
        self.loop_thread = SimulatedLoopThread(self._scheduler, lambda error: self.bugs.append(repr(error)))
        self.in_flight = _InFlight(world.facts, world.config.runtime.max_in_flight_records)
        self.bus = Bus(lambda event, error: self.bugs.append(f"a listener of {type(event).__name__}: {error!r}"))
        self._unfinished = 0
        self._zombies: set[int] = set()
        self.bus.listen(PartitionsRevoked, self._revoked)
        if world.state is not None:
            world.state.decided = self._decided
            self.bus.listen(PartitionsAssigned, self._assigned)
            self.bus.listen(StateRestored, self._restored)
        if self._scheduler.lines is not None:
            for kind in Event.__subclasses__():
                self.bus.listen(kind, lambda event: self._scheduler.note("{}", event))
        self.positions = self._begin_positions() if world.fixed else None
        self.components = self._components(chance)
        self.loop_thread.open()
        dataflow = compile_flow(self._flow, self.components)
        self.codecs = self._flow.name, dict(self._flow.state_codecs())
        self.control.on_stop = self.in_flight.engine.wake
        self.engine = Engine(dataflow, self._scheduler, chance.choice((0.1, 1.0, 3.0)), dict(world.rows), self._write)

    # --- parts ----------------------------------------------------------------------------------

    def _components(self, chance: random.Random) -> Components:
        world, config = self._world, self._world.config
        track = self._track = _Track(self._facts, records_changes=world.state is not None)
        names = list(world.sinks)
        make = partial(random.Random, f"flow {world.seed}")  # each process has the same flow
        executor = None
        if world.has_tasks:
            handler = tasks_handler(
                self._facts, world.seed, make(), names, config.executor.ordering, has_state=world.has_state
            )
            executor = SimulatedExecutor(handler, config.executor.max_executors)
            executor.timeout_s = config.executor.task_timeout_seconds
            self._flow = stream_of(handler)
        else:
            self._flow = steps_flow(self._facts, world.seed, make(), names, has_state=world.has_state)
        drawn = make()
        retry = RetryConfig(attempts=drawn.choice((1, 2, 4)), initial_s=0.01, max_s=0.3)
        limits = [(drawn.choice((1, 1, 3)), drawn.choice((1, 5, 1000))) for _ in names]
        when_open = drawn.choice(("dlq", "wait"))
        with self._clients():
            reader = self._reader(track, chance)
        return Components(
            config=config,
            bus=self.bus,
            loop_thread=self.loop_thread,
            control=self.control,
            in_flight=self.in_flight,
            reader=reader,
            sinks={
                f"kafka-{name}": world.sinks[name].component(*limit, retry, when_open)
                for name, limit in zip(names, limits, strict=True)
            },
            dead_letters=world.dead_letters,
            executor=executor,
            intake=None if executor is None else intake_of(executor, self.in_flight, config.executor),
            ended=lambda: None,
            track=track,
            recovery=self.positions,
            task_backoff=Backoff(initial_s=0.01, max_s=0.5),
            dlq_backoff=Backoff(initial_s=0.01, max_s=0.5),
            wall_clock=lambda: self._scheduler.now + self._scheduler.wall_offset_s,
        )

    def _reader(self, track: Track, chance: random.Random) -> GroupReader:
        settings = GroupSettings(
            topics=(TOPIC,),
            properties={"group.id": "group", "auto.offset.reset": "earliest"},
            poll_records=chance.choice((1, 5, 1000)),
            buffer_records_per_partition=chance.choice((3, 5000)),
            commit_interval_s=chance.choice((0.01, 0.5)),
            drain_timeout_s=chance.choice((0.01, 0.5, 30.0)),
        )
        hooks = AssignmentHooks(self.loop_thread, self.bus, None, None, 5.0)
        return GroupReader(
            settings,
            self.in_flight,
            self.control,
            self.bus,
            track,
            hooks,
            positions=self.positions,
            state=self._state_settings(),
        )

    def _state_settings(self) -> GroupStateSettings | None:
        if self._world.state is None:
            return None
        return GroupStateSettings(
            StateTopic({}, STATE_TOPIC, [TOPIC]),
            StateOwner("group", self._flow.name, dict(self._flow.state_codecs())),
            StatePolicy(),
            "member" if self._world.is_static else f"member {self._facts.life}",
        )

    def _begin_positions(self) -> DurablePositions:
        """Decide where the partitions begin, as `engine/recovery_start.py` does."""
        world = self._world
        partitions = [(TOPIC, number) for number in world.brokers.logs]
        positions = DurablePositions(sorted({slot_of(each) for each in partitions}))
        policy = StartPolicy(has_state=world.has_state, first_start=not world.rows)
        rows, starts = world.positions, dict[TopicPartition, Start]()
        for at in partitions:
            committed = committed_of(*world.brokers.committed.get(at, (-1001, "")))
            start = decide_start(at, rows.get(at), committed, Log(0, world.brokers.ends[at[1]]), policy)
            if not isinstance(start, Start):
                raise self._scheduler.fail(f"the flow starts again after a crash: {start.what}")
            starts[at] = start
        positions.begin(starts)
        return positions

    # --- life -----------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run to the end; returns False if the process crashed."""
        loop = self.loop_thread.loop
        actors = [Actor(self.engine.step, self.engine.is_ready), Actor(loop.step, loop.is_ready)]
        self._scheduler.begin(actors)
        world = self._world
        if (brokers := world.state) is None:
            self._scheduler.next_due = lambda: min(self.loop_thread.loop.next_due(), self.consumer.next_due)
        else:
            self._scheduler.next_due = lambda: min(self.loop_thread.loop.next_due(), brokers.next_due)
        with self._clients():
            try:
                return self._live()
            finally:
                self._scheduler.end()

    @contextmanager
    def _clients(self) -> Iterator[None]:
        """Put the simulated clients in the place of confluent_kafka's."""
        state, brokers, scheduler = self._world.state, self._world.brokers, self._scheduler

        def trouble() -> float:
            return self.consumer.trouble

        def producer(properties: dict[str, Any], logger: object) -> Any:
            assert state is not None
            return SimulatedProducer(state, scheduler, trouble, properties["transactional.id"])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader_module, "Consumer", self._consumer)
            if state is not None:
                patch.setattr(group_state, "Transactions", partial(_Transactions, make=producer))
                patch.setattr(
                    reading,
                    "Consumer",
                    lambda properties, logger: SimulatedReader(brokers, state, scheduler, trouble, properties),
                )
                patch.setattr(
                    restore, "AdminClient", lambda _properties: SimulatedAdmin(brokers, state, scheduler, trouble)
                )
            yield

    def _live(self) -> bool:
        try:
            self.components.reader.start()
            self._threads.threads.pop("drakkar-reader")()
        except Crash:
            self._scheduler.note("process {} crashed", self._facts.life)
            self.consumer.lose_requests()
            self.loop_thread.loop.forget()
            return False
        self.loop_thread.close()
        if self.positions is not None and not self.in_flight.records:
            for number in self._world.brokers.logs:
                self._facts.check_kept(number, self._facts.epoch_of(number), "the process ended in order")
        self._scheduler.note("process {} has ended: {}", self._facts.life, self.control.failure)
        return True

    def crash(self) -> None:
        """Kill the process: nothing of it works from now on."""
        self._scheduler.ended = True

    def _consumer(self, properties: dict[str, Any], logger: object = None) -> SimulatedConsumer:
        world = self._world
        at = world.brokers, self._scheduler, properties["on_commit"], self
        if world.state is None:
            self.consumer = SimulatedConsumer(*at)
        else:
            self.consumer = GroupMember(
                world.brokers, world.state, self._scheduler, properties["on_commit"], self, f"member {self._facts.life}"
            )
        self.consumer.trouble = self._world.dead_letters.trouble
        return self.consumer

    def finish(self) -> None:
        """Close the reader when the dataflow has ended, as the main thread does."""
        if not self._closing:
            self._closing = True
            if self.positions is not None:
                self.positions.durable(self.components.reader)
            self.components.reader.close()

    def _write(self, rows: Rows) -> None:
        """Put the rows of an epoch on disk: all of them, or none."""
        world = self._world
        for (step, _), row in rows.items():
            if step.endswith(".track"):
                self._check_rows(row, "the row")
        if not world.fixed:
            return
        world.rows.update(rows)
        for at, row in world.positions.items():
            self._facts.keep(at[1], row.offset, row.finished)

    def _check_rows(self, encoded: bytes, what: str) -> None:
        for (_, partition), row in decode_rows(encoded).items():
            self._facts.check_position(partition, row.offset, row.finished, what)
            state: dict[Any, list[str]] = {}
            for key, value in row.state.items():
                state[key] = self._decoded(key[0], value)
            self._facts.check_state(partition, row.offset, row.finished, state, what)

    def _decoded(self, step: str, value: bytes) -> list[str]:
        found: list[str] = self.codecs[1][step].decode(value)
        return found

    # --- the broker's view ----------------------------------------------------------------------

    def begun(self, partitions: list[int]) -> None:
        """Note assignments, in the order in which the library counts their epochs."""
        for number in partitions:
            at = (TOPIC, number)
            self._epochs += 1
            if self._world.fixed:
                row = self._world.positions.get(at)
                offset, finished = (0, OffsetRanges()) if row is None else (row.offset, OffsetRanges(row.finished))
            else:
                offset, metadata = self._world.brokers.committed.get(at, (0, ""))
                finished = OffsetRanges.decode(metadata, offset)
            self._scheduler.note("partition {} begins at {} with {}", number, offset, list(finished))
            self._facts.assigned(number, self._epochs, offset, finished)

    def _assigned(self, event: PartitionsAssigned) -> None:
        """Note that the library begins to read partitions whose state it has restored."""
        state = self._world.state
        assert state is not None
        for _, number in event.topic_partitions:
            if number not in self.consumer.assigned:
                raise self._scheduler.fail(f"partition {number} begins, and the consumer does not have it")
            self._epochs += 1
            offset, finished = 0, OffsetRanges()
            if number in state.owned:
                position, _ = state.contents(number)
                if position is not None:
                    offset, finished = position.offset, OffsetRanges(position.finished)
                self._zombies.discard(number)
            else:
                self._zombies.add(number)
            self._scheduler.note("partition {} begins at {} with {}", number, offset, list(finished))
            self._facts.assigned(number, self._epochs, offset, finished)

    def _restored(self, event: StateRestored) -> None:
        """Check the state with which a partition begins; that of a member that has lost it may be older."""
        number = event.topic_partition[1]
        assert self._track.ledgers is not None
        if number not in self._zombies:
            final = self._track.ledgers.final(event.topic_partition)
            self._facts.restored(number, {key: self._decoded(key[0], value) for key, value in final.items()})

    def _decided(self, transaction: Transaction) -> None:
        """Check a transaction that is committed: offset, position and state are of one instant."""
        state = self._world.state
        assert state is not None
        if set(transaction.offsets) != set(transaction.messages):
            raise self._scheduler.fail(f"offsets {transaction.offsets} are committed without their state, or it alone")
        for number, (offset, metadata) in transaction.offsets.items():
            position, values = state.contents(number)
            before = self._world.brokers.committed.get((TOPIC, number), (0, ""))[0]
            if position is None or position.offset != offset:
                raise self._scheduler.fail(f"the position of {number}:{offset} is {position}")
            if offset < before:
                raise self._scheduler.fail(f"partition {number} is rewound from {before} to {offset}")
            finished = OffsetRanges(position.finished)
            for start, stop in OffsetRanges.decode(metadata, offset):
                if any(each not in finished for each in range(start, stop)):
                    raise self._scheduler.fail(f"{metadata} of {number}:{offset} has more than {list(finished)}")
            folded = {key: self._decoded(key[0], value) for key, value in values.items()}
            with self._facts.deciding(number, is_own=transaction.producer.startswith("member")):
                self._facts.check_position(number, offset, finished, "the transaction")
                self._facts.check_state(number, offset, finished, folded, "the transaction")
                self._facts.keep(number, offset, finished)

    def _revoked(self, event: PartitionsRevoked) -> None:
        self._unfinished = event.unfinished

    def left(self, partitions: list[int], *, lost: bool) -> None:
        """Note the end of assignments."""
        for number in partitions:
            if self._unfinished == 0 and not lost and not self.consumer.trouble:
                self._facts.check_kept(number, self._facts.epoch_of(number), "its partition left")
            self._facts.fence(number)

    def commit(self, partition: int, offset: int, metadata: str) -> None:
        """Check a commit when it is requested."""
        finished = OffsetRanges.decode(metadata, offset)
        self._facts.check_position(partition, offset, finished, "the commit")
        if self._world.fixed:
            row = self._world.positions.get((TOPIC, partition))
            durable, beyond = (0, OffsetRanges()) if row is None else (row.offset, row.finished)
            if offset > durable or any(
                each in finished and not (each < durable or each in beyond) for each in self._facts.logs[partition]
            ):
                raise self._scheduler.fail(f"the commit of {partition}:{offset} is ahead of the row at {durable}")

    def accepted(self, partition: int, offset: int, metadata: str) -> None:
        """Note that the brokers have a commit."""
        if not self._world.fixed:
            self._facts.keep(partition, offset, OffsetRanges.decode(metadata, offset))

    def elsewhere(self, partitions: list[int]) -> None:
        """Let another member of the group have had partitions: it finished some records, in order."""
        for partition in partitions:
            self._process_elsewhere(partition)

    def _process_elsewhere(self, partition: int) -> None:
        brokers, facts = self._world.brokers, self._facts
        offset, metadata = brokers.committed.get((TOPIC, partition), (0, ""))
        finished = OffsetRanges.decode(metadata, offset)
        end = max(offset, brokers.ends[partition])
        reached = finished.end_of(self._scheduler.chance.randrange(offset, end + 1))
        finished.cut(reached)
        for each in brokers.logs[partition]:
            if each < reached and (partition, each) not in facts.kept:
                facts.kept[partition, each] = Course(is_finished=True)
        brokers.committed[TOPIC, partition] = reached, finished.encode(reached, 3072)
        self._scheduler.note("another member had partition {} up to {}", partition, reached)


def configuration(chance: random.Random) -> DrakkarConfig:
    """Return the settings of a seed."""
    return _configuration(
        chance.choice((3, 20, 10_000)),
        chance.choice((1, 4)),
        chance.choice((1, 3, 10)),
        chance.choice((0, 0.05)),
        chance.choice(("unordered", "key", "partition")),
    )


@cache
def _configuration(
    max_in_flight_records: int, max_executors: int, window_size: int, window_linger_s: float, ordering: str
) -> DrakkarConfig:
    return from_mapping(
        {
            "dlq": {"stop_after": 0},
            "runtime": {"max_in_flight_records": max_in_flight_records},
            "executor": {
                "binary_path": "/bin/cat",
                "max_executors": max_executors,
                "window_size": window_size,
                "window_linger_s": window_linger_s,
                "ordering": ordering,
                "max_retries": 3,
            },
        }
    )
