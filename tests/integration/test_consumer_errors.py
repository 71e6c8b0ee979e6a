"""Errors after which a consumer can't go on end the flow visibly."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer

from support.kafka_io import MakeCluster
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


def test_g13_an_outage_of_the_brokers_is_a_few_lines(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """One when they go, one when they are back, and of the client's own a handful."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    worker = scene.start()
    worker.until(lambda: worker.lines("partitions_assigned"), "it joined")
    before = len(worker.stderr.splitlines())
    cluster.stop_broker(1)
    worker.until(lambda: worker.lines("partitions_lost"), "its session was over", 60)
    assert len(worker.lines("broker_down")) == 1
    assert len(worker.stderr.splitlines()) - before <= 12, worker.stderr
    cluster.start_broker(1)
    scene.broker_restarted()
    worker.until(lambda: len(worker.lines("broker_up")) == 2, "the broker was back", 60)
    scene.fill(20)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    scene.close()


def test_f2_a_group_of_another_assignor_takes_no_worker(scene: Scene) -> None:
    """It ends with 1 and says what to do."""
    settings = {"bootstrap.servers": scene.bootstrap, "group.id": scene.group}
    other = Consumer(settings | {"partition.assignment.strategy": "range"})
    try:
        other.subscribe([scene.source])
        until(lambda: other.poll(0.1) is not None or other.assignment(), 30, "the other member to join")
        worker = scene.start()
        until(lambda: other.poll(0.1) is not None or worker.exit_code is not None, 60, "the end of the worker")
        assert worker.exit_code == 1, worker.stderr
        (line,) = worker.lines("flow_failed")
        assert "the group has members of another protocol or assignor" in line["reason"]
    finally:
        other.close()
