"""R3: brokers that restart and workers that freeze: no loss, and everything goes on by itself."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.services import KafkaCluster
from support.kafka_io import MakeCluster, end_offsets
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]


def _stop(cluster: KafkaCluster) -> None:
    cluster.stop_broker(1)


def _kill(cluster: KafkaCluster) -> None:
    cluster.kill_broker(1)


@pytest.mark.parametrize("end", [_stop, _kill], ids=["clean", "hard"])
def test_a_worker_outlives_its_broker(
    make_cluster: MakeCluster, tmp_path: Path, end: Callable[[KafkaCluster], None]
) -> None:
    """The broker goes and comes back twice: the worker shows it, stays alive, resumes and loses nothing."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    try:
        # A broker takes up to ten seconds to start on a busy machine: the worker's session outlasts that.
        worker = scene.start("precomputed", {"kafka": {"session_timeout_ms": 20_000}})
        with scene.feeding(rate=100) as feeder:
            for _ in range(2):
                before = sum(scene.committed().values())
                worker.until(lambda before=before: sum(scene.committed().values()) > before, "it committed")  # type: ignore[misc]  # mypy knows no lambda with a default here
                end(cluster)
                worker.until(lambda: worker.metric("drakkar_broker_up") == 0, "it noticed")
                cluster.start_broker(1)
                scene.broker_restarted()
                feeder.broker_restarted()
                worker.until(lambda: worker.metric("drakkar_broker_up") == 1, "it was connected", timeout_s=60)
        scene.until_finished(timeout_s=60)
        assert worker.terminate() == 0, worker.stderr
        written = sum(end_offsets(cluster.bootstrap, scene.source).values())
        duplicates = scene.check_delivered(feeder.count) - (written - feeder.count)
        print(f"{written} records, {duplicates} duplicates")
        assert 0 <= duplicates <= 2 * 100
    finally:
        scene.close()


def test_a_frozen_worker_loses_its_partitions_and_commits_nothing_for_them(scene: Scene) -> None:
    """Frozen for longer than its session, then woken: another has gone on, no commit goes back, nothing is lost."""
    with scene.watching() as watch:
        with scene.feeding() as feeder:
            frozen = scene.start("precomputed")
            frozen.until(lambda: sum(scene.committed().values()) > 200, "it committed")
            other = scene.start("precomputed")
            other.until(lambda: other.metric("drakkar_messages_consumed_total"), "it read records")
            frozen.send(signal.SIGSTOP)
            other.until(lambda: other.metric("drakkar_assigned_partitions") == 4, "it had all partitions")
            before = sum(scene.committed().values())
            other.until(lambda: sum(scene.committed().values()) > before + 200, "it had gone on")
            frozen.send(signal.SIGCONT)
            frozen.until(lambda: '"lost": true' in frozen.stderr or "partitions_lost" in frozen.stderr, "it was told")
            frozen.until(lambda: frozen.metric("drakkar_assigned_partitions") == 2, "it had a share again")
        scene.until_finished()
        assert frozen.terminate() == 0, frozen.stderr
        assert other.terminate() == 0, other.stderr
    delivered = scene.delivered()
    watch.check(delivered)
    duplicates = scene.check_delivered(feeder.count)
    print(f"{feeder.count} records, {duplicates} duplicates")
    # Until it is told, a woken worker may deliver what the other has delivered too; then never again.
    assert max(Counter(message.key() for message in delivered).values()) <= 2
