"""Topics that change under a running flow in fixed mode: the state of one log never counts records of another."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka_io import create_topic, produce
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def settings(scene: Scene, **kafka: object) -> dict[str, dict[str, object]]:
    """A store with a short interval, and quick looks for what changed."""
    recovery = {"dir": str(scene.directory / "store"), "snapshot_interval_s": 0.2}
    return {"runtime": {"recovery": recovery}, "kafka": {"metadata_refresh_s": 1.0, **kafka}}


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
