"""R15: steps of the wall clock. Timeouts do not follow them, state stays exact, and timers and lifetimes move along."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.drill import Drill
from chaos.group_drill import GroupDrill, advance
from chaos.injected import Clock, with_clock
from chaos.truths import COUNTING, FLUSHING, MINUTES, Truth
from support.kafka_io import produce
from support.scene import Scene
from support.worker import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

Results = list[tuple[object, ...]]

DAY_S = 86_400.0
_STEPS_S = (DAY_S, -DAY_S, 3600.0, 0.0)


@pytest.mark.parametrize(
    ("truth", "processes"),
    [
        (FLUSHING, 1),
        pytest.param(MINUTES, 1, marks=pytest.mark.long),
        pytest.param(COUNTING, 2, marks=pytest.mark.long),
    ],
    ids=["timers", "windows", "cluster"],
)
def test_r15_steps_of_the_clock_change_no_count(scene: Scene, results: Results, truth: Truth, processes: int) -> None:
    """A day forward and two back: nothing times out, nothing stalls, and each record counts once."""
    clock = Clock(scene.directory / "clock")
    drill = Drill(scene, truth=truth, cluster={"stalled_after_s": 60})
    with drill.feeding():
        workers = drill.start(processes, dict.fromkeys(range(processes), with_clock(clock)))
        advance(scene)
        for seconds in _STEPS_S:
            clock.set(seconds)
            advance(scene)
            drill.check()
        clock.set(DAY_S)
    drill.finish(workers)  # and the drain too
    for worker in workers:
        assert not worker.lines("cluster_broken") + worker.lines("stop_overdue") + worker.lines("stuck")
    assert drill.repeated == 0
    name = "fixed mode" if processes == 1 else f"cluster of {processes}"
    faults = f"{len(_STEPS_S) + 1} steps of the wall clock, up to 2 days"
    results.append(drill.finished(f"R15 {name}, {truth.name}", faults))


@pytest.mark.long
def test_r15_programs_and_commits_of_a_group_do_not_follow_the_clock(scene: Scene, results: Results) -> None:
    """A task that runs while the clock goes a day forward or back does not time out."""
    clock = Clock(scene.directory / "clock")
    executor = {"binary_path": "/bin/sh", "task_timeout_seconds": 60, "max_executors": 60}
    settings: dict[str, dict[str, Any]] = {"executor": executor, "runtime": {"max_in_flight_records": 200}}
    drill = GroupDrill(scene, "slow_cat", settings, program=with_clock(clock))
    with drill.feeding(rate=50):
        worker = drill.start()
        drill.advance()
        for seconds in _STEPS_S:
            clock.set(seconds)
            drill.advance()
        clock.set(DAY_S)
    drill.finish([worker])
    row = drill.finished("R15 group, programs", f"{len(_STEPS_S) + 1} steps of the wall clock, up to 2 days")
    assert drill.duplicates == 0
    assert not scene.dead_letters()
    results.append(row)


def test_r15_timers_and_lifetimes_follow_the_clock(scene: Scene) -> None:
    """A step forward makes them due, a step back puts them off: docs/state.md."""
    clock = Clock(scene.directory / "clock")
    recovery = {"dir": str(scene.directory / "store"), "snapshot_interval_s": 0.2}
    pipeline = str(ROOT / "tests" / "chaos" / "pipelines" / "hourly")
    worker = scene.start(pipeline, {"runtime": {"recovery": recovery}}, program=with_clock(clock))
    worker.until_running()

    def visited(at_s: float) -> list[bytes | str | None]:
        """The outputs of a visit of anna at a time."""
        clock.set(at_s)
        before = len(scene.delivered())
        produce(scene.bootstrap, scene.source, ["anna"], partition=0)
        ends = scene.committed().get(0, 0)
        worker.until(lambda: scene.committed().get(0, 0) > ends, "it committed", 60)
        return [message.value() for message in scene.delivered()[before:]]

    assert visited(0) == [b"anna 1"]
    assert visited(-1800) == [b"anna 2"]  # the timer is due half an hour later than it was
    assert visited(3000) == [b"anna 3"]
    assert visited(3700) == [b"anna reported", b"anna 4"]
    assert visited(0) == [b"anna 5"]  # the timer has fired and does not come back
    assert visited(5500) == [b"anna 1"]  # forgotten
    assert worker.terminate(timeout_s=120) == 0, worker.stderr
