"""R4: workers join and leave under load; partitions change hands without loss, and cleanly without duplicates."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest

from support.scene import Scene
from support.worker import Worker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("rebalance"),
]

ROUNDS = 3
IN_FLIGHT, UNCOMMITTED = 50, 50
FLAVOURS = ["classic", "consumer", "static"]

_numbers = itertools.count()


def _start(scene: Scene, flavour: str) -> Worker:
    kafka: dict[str, Any] = {}
    if flavour == "consumer":
        kafka["group_protocol"] = "consumer"
    if flavour == "static":
        kafka["group_instance_id"] = f"member-{next(_numbers)}"
    return scene.start("precomputed", {"kafka": kafka})


def _join(scene: Scene, flavour: str, count: int = 1) -> list[Worker]:
    """Start workers at once and wait until each works: it has partitions and has finished records of them."""
    workers = [_start(scene, flavour) for _ in range(count)]
    for worker in workers:
        worker.until_running()
        worker.until(partial(worker.metric, "drakkar_messages_consumed_total"), "it read records", timeout_s=60)
    return workers


@pytest.mark.alone
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_joining_and_leaving_cleanly_costs_nothing(scene: Scene, flavour: str) -> None:
    """A second and a third worker come and go: all delivered exactly once, each commit covered by the output."""
    with scene.watching() as watch:
        with scene.feeding() as feeder:
            (first,) = _join(scene, flavour)
            for _ in range(ROUNDS):
                second, third = _join(scene, flavour, 2)
                assert second.terminate() == 0, second.stderr
                assert third.terminate() == 0, third.stderr
        scene.until_finished()
        assert first.terminate() == 0, first.stderr
    samples = watch.check(scene.delivered())
    duplicates = scene.check_delivered(feeder.count)
    print(f"{flavour}: {feeder.count} records, {samples} samples of commits, {duplicates} duplicates")
    assert samples > 20
    assert duplicates == 0


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_killed_members_lose_nothing(scene: Scene, flavour: str) -> None:
    """Members that die are replaced; what they had not committed comes again, and no more than that."""
    with scene.watching() as watch:
        with scene.feeding() as feeder:
            first, second, third = _join(scene, flavour, 3)
            second.kill()
            third.kill()
            (second,) = _join(scene, flavour)
            second.kill()
        scene.until_finished(timeout_s=120)
        assert first.terminate() == 0, first.stderr
    samples = watch.check(scene.delivered())
    duplicates = scene.check_delivered(feeder.count)
    print(f"{flavour}: {feeder.count} records, {samples} samples of commits, {duplicates} duplicates")
    assert duplicates <= 3 * (IN_FLIGHT + UNCOMMITTED)
