"""Partitions and topics that appear while a worker runs, and very many of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka_io import Kafka, add_partitions, committed, create_topic, delete_topics, produce
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MANY = 1000


def test_new_partitions_are_read_without_a_restart(scene: Scene) -> None:
    """Two partitions are added to four: what is written to them is delivered."""
    worker = scene.start("precomputed", {"kafka": {"metadata_refresh_s": 0.5}})
    scene.fill(100)
    scene.until_finished()
    add_partitions(AdminClient({"bootstrap.servers": scene.bootstrap}), scene.source, 6)
    worker.until(lambda: worker.metric("drakkar_assigned_partitions") == 6, "it had six partitions")
    produce(scene.bootstrap, scene.source, map(str, range(100, 150)), partition=4)
    produce(scene.bootstrap, scene.source, map(str, range(150, 200)), partition=5)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert scene.check_delivered(200) == 0


def test_what_was_written_to_a_new_partition_before_it_was_found_is_read(scene: Scene) -> None:
    """Records are older than the worker's knowledge of their partition: they are delivered all the same."""
    worker = scene.start("precomputed", {"kafka": {"metadata_refresh_s": 5.0}})
    worker.until(lambda: worker.metric("drakkar_assigned_partitions") == 4, "it had four partitions")
    add_partitions(AdminClient({"bootstrap.servers": scene.bootstrap}), scene.source, 5)
    produce(scene.bootstrap, scene.source, map(str, range(50)), partition=4)
    assert worker.metric("drakkar_assigned_partitions") == 4
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert scene.check_delivered(50) == 0


def test_new_topics_that_match_are_read_without_a_restart(scene: Scene) -> None:
    """A topic made after the start, whose name matches the pattern, is read from its beginning."""
    late = f"{scene.source}-late"
    settings = {"source_topic": f"^{scene.source}.*", "metadata_refresh_s": 0.5}
    worker = scene.start("precomputed", {"kafka": settings})
    scene.fill(100)
    scene.until_finished()
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    create_topic(admin, late, 2)
    try:
        produce(scene.bootstrap, late, map(str, range(100, 150)), partition=1)
        worker.until(lambda: committed(scene.bootstrap, scene.group, late).get(1) == 50, "it committed the new topic")
        assert worker.terminate() == 0, worker.stderr
    finally:
        delete_topics(admin, [late])
    assert scene.check_delivered(150) == 0


@pytest.mark.timeout(240)
def test_a_thousand_partitions_are_one_worker_s_work(kafka: Kafka, tmp_path: Path) -> None:
    """All are assigned, every one of them is delivered and committed to its end, and the stop is as clean as ever."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=MANY)
    try:
        scene.fill(10 * MANY)
        worker = scene.start("precomputed", {"runtime": {"max_in_flight_records": 1000, "commit_max_offsets": 1000}})
        worker.until(lambda: worker.metric("drakkar_assigned_partitions") == MANY, "it had them all", timeout_s=60)
        scene.until_finished(timeout_s=120)
        assert worker.terminate() == 0, worker.stderr
        assert scene.check_delivered(10 * MANY) == 0
    finally:
        scene.close()
