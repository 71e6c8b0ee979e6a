"""Topics that change under a running group, and where a group begins."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka_io import add_partitions, create_topic, produce
from support.scene import Scene
from support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROTOCOLS = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def of_kafka(**settings: object) -> dict[str, dict[str, object]]:
    """Settings of the kafka section, with quick looks for what changed."""
    return {"kafka": {"metadata_refresh_s": 1.0, **settings}}


@PROTOCOLS
def test_f13_a_topic_that_is_made_anew_is_read_from_its_beginning(scene: Scene, protocol: str) -> None:
    """Also when it is filled beyond the old position before anybody looks; nothing is skipped or committed past."""
    worker = scene.start(overrides=of_kafka(group_protocol=protocol))
    produce(scene.bootstrap, scene.source, [f"old{n}" for n in range(10)], partition=0)
    worker.until(lambda: scene.committed().get(0) == 10, "it committed the old topic")
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.delete_topics([scene.source])[scene.source].result(10)
    until(lambda: scene.source not in admin.list_topics(timeout=5).topics, what="the topic to go")
    create_topic(admin, scene.source, 4)
    produce(scene.bootstrap, scene.source, [f"new{n}" for n in range(25)], partition=0)

    def delivered() -> set[bytes | None]:
        return {message.value() for message in scene.delivered()}

    wanted = {f"old{n}".encode() for n in range(10)} | {f"new{n}".encode() for n in range(25)}
    worker.until(lambda: delivered() == wanted, "it delivered the new topic", 60)
    worker.until(lambda: scene.committed().get(0) == 25, "it committed the new topic", 30)
    assert worker.terminate() == 0, worker.stderr


@PROTOCOLS
def test_f14_a_life_that_read_nothing_has_a_starting_position(scene: Scene, protocol: str) -> None:
    """What is written while the group is down is read by the next life; what was there before never is."""
    scene.fill(5)
    settings = of_kafka(group_protocol=protocol, auto_offset_reset="latest")
    worker = scene.start(overrides=settings)
    worker.until(lambda: worker.lines("partitions_assigned"), "it joined")
    assert worker.terminate() == 0, worker.stderr
    assert sum(scene.committed().values()) == 5
    assert len(scene.committed()) == 4
    produce(scene.bootstrap, scene.source, ["a", "b", "c"], partition=2)
    worker = scene.start(overrides=settings)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert [message.value() for message in scene.delivered()] == [b"a", b"b", b"c"]


@PROTOCOLS
def test_f14_partitions_that_are_added_are_read_from_their_beginning(scene: Scene, protocol: str) -> None:
    """With auto_offset_reset latest too: their records were written after the group began."""
    scene.fill(5)
    worker = scene.start(overrides=of_kafka(group_protocol=protocol, auto_offset_reset="latest"))
    worker.until(lambda: worker.lines("partitions_assigned"), "it joined")
    add_partitions(AdminClient({"bootstrap.servers": scene.bootstrap}), scene.source, 6)
    produce(scene.bootstrap, scene.source, ["a"], partition=5)
    worker.until(lambda: scene.committed().get(5) == 1, "it read the new partition", 60)
    assert worker.terminate() == 0, worker.stderr
    assert [message.value() for message in scene.delivered()] == [b"a"]


def test_a_group_that_must_have_positions_fails_without(scene: Scene) -> None:
    """By auto_offset_reset error; the remedy says how to set them."""
    scene.fill(5)
    worker = scene.start(overrides=of_kafka(auto_offset_reset="none"))
    assert worker.wait(60) == 1
    (line,) = worker.lines("flow_failed")
    assert "set kafka.auto_offset_reset to earliest or latest" in line["reason"]
    assert scene.committed() == {}


def test_n9_a_member_that_was_killed_is_waited_for_with_a_word(scene: Scene) -> None:
    """How long at most; meanwhile the broker is up."""
    settings = {"kafka": {"session_timeout_ms": 15_000}}
    first = scene.start(overrides=settings)
    first.until(lambda: first.lines("partitions_assigned"), "it joined")
    first.kill()
    second = scene.start(overrides=settings)
    second.until(lambda: second.lines("broker_up"), "it reached the broker")
    assert second.metric("drakkar_broker_up") == 1
    assert not second.lines("partitions_assigned")
    second.until(lambda: second.lines("partitions_assigned"), "it got the partitions", 60)
    (line,) = second.lines("assignment_awaited")
    assert line["at_most_s"] == 15.0
    assert second.terminate() == 0, second.stderr
