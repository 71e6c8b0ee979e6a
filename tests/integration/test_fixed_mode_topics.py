"""Topics that change under a running flow in fixed mode: the state of one log never counts records of another."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from drakkar_flow.runtime.recovery.reading import StoredRow, read_rows
from support.kafka_io import create_topic, produce
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def settings(scene: Scene, **kafka: object) -> dict[str, dict[str, object]]:
    """A store with a short interval, and quick looks for what changed."""
    recovery = {"dir": str(scene.directory / "store"), "snapshot_interval_s": 0.2}
    return {"runtime": {"recovery": recovery}, "kafka": {"metadata_refresh_s": 1.0, **kafka}}


def row(scene: Scene, flow: str = "visits") -> StoredRow:
    """The row of partition 0."""
    return read_rows(scene.directory / "store", flow).rows[scene.source, 0]


@pytest.mark.parametrize("new", [5, 25], ids=["shorter", "longer"])
def test_a_topic_that_is_made_anew_ends_the_flow(scene: Scene, new: int) -> None:
    """The next start refuses it: position and state belong to the former topic."""
    worker = scene.start("visits", settings(scene))
    produce(scene.bootstrap, scene.source, ["anna"] * 10, partition=0)
    worker.until(lambda: scene.committed().get(0) == 10, "it committed the old topic")
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.delete_topics([scene.source])[scene.source].result(10)
    until(lambda: scene.source not in admin.list_topics(timeout=5).topics, what="the topic to go")
    create_topic(admin, scene.source, 4)
    produce(scene.bootstrap, scene.source, ["anna"] * new, partition=0)
    assert worker.wait(60) == 1, worker.stderr
    (line,) = worker.lines("flow_failed")
    assert scene.source in line["reason"]
    worker = scene.start("visits", settings(scene))
    assert worker.wait(30) == 1
    assert "was deleted and created again; position and state belong to the old one" in worker.stderr


def test_markers_at_the_end_of_the_log_are_no_lag_and_no_commit(scene: Scene) -> None:
    """The commit is the row's position, so the next start finds nothing to warn of."""
    worker = scene.start("visits", settings(scene))
    worker.until_running()
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": scene.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(3):
        producer.produce(scene.source, b"anna", partition=0)
    producer.commit_transaction(30)
    worker.until(lambda: scene.committed().get(0) == 3, "it committed them")
    worker.until(lambda: worker.by_partition("drakkar_consumer_lag").get(0) == 0, "it passed the marker")
    assert worker.terminate() == 0, worker.stderr
    assert scene.committed() == {0: row(scene).row.offset}
    worker = scene.start("visits", settings(scene))
    worker.until_running()
    assert worker.lines("recovery_start") == []


def test_a_start_at_the_end_commits_nothing_before_its_row(scene: Scene) -> None:
    """What is written while the flow is down is read by the next life; what was there before never is."""
    scene.fill(5)
    latest = settings(scene, auto_offset_reset="latest")
    worker = scene.start("visits", latest)
    worker.until(lambda: worker.lines("partitions_assigned"), "it read")
    assert worker.terminate() == 0, worker.stderr
    assert scene.committed() == {}
    produce(scene.bootstrap, scene.source, ["anna", "otto"], partition=2)
    worker = scene.start("visits", latest)
    worker.until(lambda: len(scene.delivered()) == 2, "it read on")
    assert worker.terminate() == 0, worker.stderr
    assert {message.value() for message in scene.delivered()} == {b"anna 1", b"otto 1"}


def test_commits_without_metadata_are_not_taken_for_another_clients(scene: Scene) -> None:
    """With commit_metadata_bytes 0 a commit behind the row is normal after a crash, and no warning."""
    quiet = settings(scene)
    quiet["runtime"] |= {"commit_metadata_bytes": 0, "commit_interval_s": 600, "commit_max_offsets": 10_000}
    produce(scene.bootstrap, scene.source, ["anna"] * 5, partition=0)
    worker = scene.start("visits", quiet)
    worker.until(lambda: len(scene.delivered()) == 5, "it delivered them")
    assert worker.terminate() == 0, worker.stderr
    worker = scene.start("visits", quiet)
    worker.until_running()
    produce(scene.bootstrap, scene.source, ["anna"], partition=0)
    worker.until(lambda: row(scene).row.offset == 6, "its row")
    worker.kill()
    assert scene.committed() == {0: 5}
    worker = scene.start("visits", quiet)
    worker.until_running()
    assert worker.lines("recovery_start") == []
