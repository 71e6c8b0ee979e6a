"""Commits of a flow in fixed mode that the brokers refuse: they are a copy, and the flow goes on."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer

from support.kafka_io import produce
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_member_that_joins_the_group_does_not_hold_it_up(scene: Scene) -> None:
    """The brokers refuse commits then; rows go on, and the log says why the commits do not."""
    store = str(scene.directory / "store")
    worker = scene.start("visits", {"runtime": {"recovery": {"dir": store, "snapshot_interval_s": 0.2}}})
    worker.until(lambda: worker.lines("partitions_assigned"), "it read")
    member = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": scene.group, "enable.auto.commit": False})
    member.subscribe([scene.source])
    try:
        until(lambda: bool(member.poll(0.1)) or member.assignment(), what="the member to join")

        def refused() -> bool:
            member.poll(0.1)
            return (worker.metric("drakkar_commit_failures_total") or 0) > 150

        produce(scene.bootstrap, scene.source, ["anna"] * 100, partition=0)
        worker.until(refused, "commits were refused for long", 60)
        produce(scene.bootstrap, scene.source, ["anna"] * 200, partition=0)
        worker.until(lambda: len(scene.delivered()) == 300, "it delivered all")
    finally:
        member.close()
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
