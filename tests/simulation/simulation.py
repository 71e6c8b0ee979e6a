"""Simulation of one seed: processes one after the other, with rebalances, crashes, stops and failures between."""

from __future__ import annotations

import random
from dataclasses import dataclass

from simulation.broker import Brokers
from simulation.facts import Facts
from simulation.other_member import OtherMember
from simulation.process import Process, World, configuration
from simulation.scheduler import Scheduler, Violation
from simulation.state_brokers import StateBrokers
from simulation.stdlib import replaced
from simulation.targets import SimulatedDeadLetters, SimulatedSink

__all__ = ["Report", "simulate", "timeline_of"]


@dataclass(frozen=True)
class Report:
    """What a seed has done."""

    records: int
    steps: int
    lives: int
    delivered: int
    dead_letters: int


class _Simulation:
    def __init__(self, seed: int, lines: list[str] | None) -> None:
        self.chance = chance = random.Random(seed)
        self.scheduler = Scheduler(chance, chance.choice((0.0, 0.02, 0.2)))
        self.scheduler.lines = lines
        self.scheduler.after_step = self._after_step
        facts = Facts(self.scheduler)
        trouble = chance.choice((0.0, 0.1, 0.4, 0.7))
        sinks = ["a", "b"][: chance.choice((1, 2))]
        mode = chance.random()
        fixed = mode < 0.5
        self.has_state_topic = mode > 0.75
        self.world = World(
            seed,
            self.scheduler,
            facts,
            Brokers(chance.randrange(1, 4)),
            {name: SimulatedSink(name, facts, trouble) for name in sinks},
            SimulatedDeadLetters(facts, trouble),
            configuration(chance),
            fixed=fixed,
            has_state=self.has_state_topic or (fixed and chance.random() < 0.8),
            has_tasks=chance.random() < 0.5,
        )
        facts.logs = self.world.brokers.logs
        if self.has_state_topic:
            self.world.state = StateBrokers(self.world.brokers, self.scheduler)
            self.world.is_static = chance.random() < 0.5
        self.calm_after = chance.randrange(200, 1200)
        """Steps after which nothing disturbs the flow any more."""
        self.disturbances = (
            (0.02, self._produce_some),
            (chance.choice((0.0, 0.002, 0.008)), self._crash),
            (chance.choice((0.0, 0.001, 0.004)), self._stop),
            (0.0 if fixed else chance.choice((0.01 if self.has_state_topic else 0.0, 0.005, 0.03)), self._rebalance),
            (0.002, self._step_wall_clock),
            (0.03 if self.has_state_topic else 0.0, self._work_elsewhere),
        )
        """Probabilities in each step, and what happens then."""
        self.process: Process | None = None
        self.calmed: Process | None = None
        """The process that nothing disturbs any more."""
        self.produced = 0
        self.to_produce = chance.randrange(10, 66)

    @property
    def calm(self) -> bool:
        """True if nothing disturbs the flow any more."""
        return self.scheduler.steps > self.calm_after

    def run(self) -> Report:
        """Run processes until every record is finished for good."""
        with replaced(self.scheduler) as threads:
            while True:
                self.process = process = Process(self.world, threads, self.chance)
                ended = process.run()
                self._check_end(process, ended=ended)
                if ended and self.calm and self.produced >= self.to_produce and self.world.facts.all_kept():
                    break
        world = self.world
        return Report(
            self.produced, self.scheduler.steps, world.facts.life, world.facts.delivered, world.dead_letters.count
        )

    def _check_end(self, process: Process, *, ended: bool) -> None:
        bugs = [*process.bugs, *process.loop_thread.loop.bugs]
        if bugs:
            self.scheduler.fail(f"no error in the library: {bugs[0]}")
        if ended and process.control.failure is not None:
            self.scheduler.fail(f"the flow does not fail: {process.control.failure}")
        if self.scheduler.violation is not None:
            raise self.scheduler.violation

    # --- disturbances ---------------------------------------------------------------------------

    def _after_step(self) -> None:
        process, chance = self.process, self.chance
        if process is None:
            return
        if process.bugs:
            raise self.scheduler.fail(f"no error in the library: {process.bugs[0]}")
        if process.engine.ended:
            process.finish()
        if process.control.stopping:
            return
        if self.scheduler.steps > self.calm_after:
            self._calm_down(process)
            return
        luck = chance.random()
        for rate, disturb in self.disturbances:
            if luck < rate:
                disturb(process)
                return
            luck -= rate

    def _calm_down(self, process: Process) -> None:
        if self.calmed is not process:
            self.calmed = process
            for sink in self.world.sinks.values():
                sink.trouble = 0.0
            self.world.dead_letters.trouble = 0.0
            process.consumer.trouble = 0.0
            self._produce(self.to_produce - self.produced)
        if not (self.world.fixed or process.consumer.has_all or process.consumer.rebalancing):
            process.consumer.rebalance("assign", list(self.world.brokers.logs))
        elif process.in_flight.records == 0 and self.world.facts.all_kept():
            self.scheduler.note("all is finished: stop")
            process.control.stop()

    def _produce(self, count: int) -> None:
        count = min(count, self.to_produce - self.produced)
        if count > 0:
            self.produced += count
            self.scheduler.note("produced {}", self.world.brokers.produce(self.chance, count))

    def _produce_some(self, _process: Process) -> None:
        self._produce(self.chance.randrange(1, 8))

    def _crash(self, process: Process) -> None:
        process.crash()

    def _stop(self, process: Process) -> None:
        self.scheduler.note("stop")
        process.control.stop()

    def _step_wall_clock(self, _process: Process) -> None:
        self.scheduler.wall_offset_s += self.chance.choice((-3600.0, 3600.0))

    def _work_elsewhere(self, process: Process) -> None:
        if self.world.state is not None:
            OtherMember(self.world.brokers, self.world.state, self.world.facts, process.codecs).work()

    def _rebalance(self, process: Process) -> None:
        consumer, chance = process.consumer, self.chance
        if consumer.rebalancing:
            return
        numbers = [number for number in self.world.brokers.logs if chance.random() < 0.6]
        kind = chance.choice(("revoke", "revoke", "lose", "assign"))
        if kind != "assign":
            consumer.rebalance(kind, numbers)
        if chance.random() < 0.2 and self.world.state is None:
            consumer.rebalance("elsewhere", numbers)
        if kind == "assign" or chance.random() < 0.5:
            consumer.rebalance("assign", numbers)


def simulate(seed: int, lines: list[str] | None = None) -> Report:
    """Simulate a seed; `lines` takes its timeline.

    Raises:
        Violation: an invariant does not hold.
    """
    return _Simulation(seed, lines).run()


def timeline_of(seed: int) -> str:
    """Return the timeline of a seed that fails, with the invariant at its end."""
    lines: list[str] = []
    try:
        simulate(seed, lines)
    except Violation as exc:
        return "\n".join([*lines, f"SIMULATION_SEED={seed}: {exc}"])
    return f"SIMULATION_SEED={seed}: all invariants hold"
