"""Errors after which a consumer can't go on end the flow visibly."""

from __future__ import annotations

import pytest

from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_f2_two_workers_with_one_instance_id_do_not_both_live(scene: Scene, protocol: str) -> None:
    """The one that the group refuses ends with 1 and says why; the other one reads on."""
    settings = {"kafka": {"group_instance_id": "one", "group_protocol": protocol}}
    scene.fill(20)
    first = scene.start(overrides=settings)
    first.until(lambda: first.lines("partitions_assigned"), "it joined")
    scene.until_finished()
    second = scene.start(overrides=settings)
    until(lambda: first.exit_code is not None or second.exit_code is not None, 60, "one of them to end")
    loser, winner = (first, second) if first.exit_code is not None else (second, first)
    assert loser.exit_code == 1, loser.stderr
    (line,) = loser.lines("flow_failed")
    assert "kafka.group_instance_id" in line["reason"]
    scene.fill(20)
    scene.until_finished()
    assert winner.terminate() == 0, winner.stderr
