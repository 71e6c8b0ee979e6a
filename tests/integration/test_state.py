"""Keyed state in a real worker, with real brokers."""

from __future__ import annotations

from collections import Counter
from typing import Any

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


@pytest.mark.parametrize("store", [{"recovery": {"snapshot_interval_s": 0.1}}, {"commit_interval_s": 0.1}])
def test_kills_lose_no_window_and_miscount_none(scene: Scene, store: dict[str, Any]) -> None:
    """Each window is delivered, with one value however often; times are up to 5 s out of order. In both modes."""
    visits = [(f"user-{number * number % 23}", number / 20 - number % 3) for number in range(4_000)]
    settings = {"runtime": store}
    for part in range(4):
        worker = scene.start("windows", settings)
        chosen = visits[part * 1_000 : (part + 1) * 1_000]
        produce(
            scene.bootstrap, scene.source, [f"{user} {at}" for user, at in chosen], keys=[user for user, _ in chosen]
        )
        worker.until(lambda: sum(scene.committed().values()) > part * 1_000 + 300, "commits")  # noqa: B023 - called here
        worker.kill()
    users = sorted({user for user, _ in visits})
    produce(scene.bootstrap, scene.source, [f"{user} 10000" for user in users], keys=users)  # closes all windows
    worker = scene.start("windows", settings)
    scene.until_finished()
    assert worker.terminate() == 0
    wanted = {
        f"{user} {start:g} {n}" for (user, start), n in Counter((user, at // 10 * 10) for user, at in visits).items()
    }
    delivered = Counter((message.value() or b"").decode() for message in scene.delivered())
    assert delivered.keys() == wanted
    assert not worker.lines("records_failed")
