"""Keyed state in a real worker, with real brokers."""

from __future__ import annotations

from collections import Counter

import pytest

from support.kafka_io import produce
from support.scene import Scene

pytestmark = pytest.mark.integration


def test_a_worker_numbers_the_visits_of_each_user(scene: Scene) -> None:
    """The key of a record chooses its partition, so each user has one count; the size of the state is exported."""
    users = [f"user-{number * number % 97}" for number in range(2_000)]
    worker = scene.start("visits", {"runtime": {"recovery": {}}})
    produce(scene.bootstrap, scene.source, users, keys=users)
    scene.until_finished()
    delivered = Counter((message.value() or b"").decode() for message in scene.delivered())
    wanted = {f"{user} {number}" for user, times in Counter(users).items() for number in range(1, times + 1)}
    assert delivered == dict.fromkeys(wanted, 1)
    assert worker.metric("drakkar_state_keys") == len(set(users))
    assert (worker.metric("drakkar_state_bytes") or 0) > 0
    assert worker.terminate() == 0


def test_a_worker_with_state_needs_a_store(scene: Scene) -> None:
    """Else a restart would lose the state: the start is refused, with the remedy."""
    worker = scene.start("visits")
    assert worker.wait(30) == 2
    assert "runtime.recovery: stateful-count keeps state, which would be lost with this process" in worker.stderr
    assert "write `recovery: {}`" in worker.stderr
