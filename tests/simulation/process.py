"""One process of the simulation: the library's components as `engine/build.py` joins them, with simulated ends."""

from __future__ import annotations

import random
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
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.source import PartitionsRevoked
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import Assignment, InFlight
from drakkar_flow.runtime.acknowledgement.tracker import SettleResult
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.group import reader as reader_module
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.reader import GroupReader, GroupSettings
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.stop_signal import StopSignal
from simulation.broker import TOPIC, Brokers, SimulatedConsumer
from simulation.engine import Engine, Rows
from simulation.facts import Course, Facts
from simulation.loop import SimulatedLoopThread
from simulation.scheduler import Actor, Crash, Scheduler
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
    stops_at_first_start: bool = True

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

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def settle(self, acks: list[Ack]) -> list[SettleResult]:
        self._facts.credited(acks)
        return super().settle(acks)


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
        self.bus.listen(PartitionsRevoked, self._revoked)
        if self._scheduler.lines is not None:
            for kind in Event.__subclasses__():
                self.bus.listen(kind, lambda event: self._scheduler.note("{}", event))
        self.positions = self._begin_positions() if world.fixed else None
        self.components = self._components(chance)
        self.loop_thread.open()
        dataflow = compile_flow(self._flow, self.components)
        self._codecs = dict(self._flow.state_codecs())
        self.control.on_stop = self.in_flight.engine.wake
        self.engine = Engine(dataflow, self._scheduler, chance.choice((0.1, 1.0, 3.0)), dict(world.rows), self._write)

    # --- parts ----------------------------------------------------------------------------------

    def _components(self, chance: random.Random) -> Components:
        world, config = self._world, self._world.config
        track = _Track(self._facts)
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
        return Components(
            config=config,
            bus=self.bus,
            loop_thread=self.loop_thread,
            control=self.control,
            in_flight=self.in_flight,
            reader=self._reader(track, chance),
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
        return GroupReader(settings, self.in_flight, self.control, self.bus, track, hooks, positions=self.positions)

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
        self._scheduler.begin(actors, idle_after=3)
        self._scheduler.next_due = lambda: min(self.loop_thread.loop.next_due(), self.consumer.next_due)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader_module, "Consumer", self._consumer)
            return self._live()

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
        self.consumer = SimulatedConsumer(self._world.brokers, self._scheduler, properties["on_commit"], self)
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
        found: list[str] = self._codecs[step].decode(value)
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
