"""A process that is killed, on the kit and for real: nothing is lost, and what comes twice is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from drakkar_flow.cli.find import find_flow
from drakkar_flow.testing import FlowHarness
from support.kafka_io import Kafka
from support.scene import PIPELINES, Scene
from support.until import until

COUNT = 30
NEVER = {"runtime": {"commit_interval_s": 3600, "commit_max_offsets": 100_000}}


class Lives(Protocol):
    """A flow that reads the numbers below COUNT from one partition, life after life."""

    def start(self, pipeline: str, *, commits: bool = True, hold: bool = False) -> None:
        """Begin a life: one that commits or does not, and one in which number 0 is held or is not."""

    def until_delivered(self, count: int) -> None:
        """Wait for so many deliveries, copies included, and for the commits that may follow them."""

    def kill(self) -> None:
        """SIGKILL."""

    def finish(self) -> Counter[str]:
        """Wait until everything is committed; returns how often each number was delivered."""


class KitLives:
    """On the kit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._kit: FlowHarness | None = None

    @property
    def kit(self) -> FlowHarness:
        assert self._kit is not None
        return self._kit

    def start(self, pipeline: str, *, commits: bool = True, hold: bool = False) -> None:
        self._patch.setenv("HOLD", "1" if hold else "")
        flow, _ = find_flow(str(PIPELINES / f"{pipeline}.py"))
        if self._kit is None:
            self._kit = FlowHarness(flow)
            self.kit.send_all(str(number) for number in range(COUNT))
        if not commits:
            self.kit.hold_commits()
        self.kit.restart(flow)

    def until_delivered(self, count: int) -> None:
        def finished() -> bool:
            return sum(each.acknowledged for each in self.kit.sent) >= min(count, COUNT)

        self.kit.wait_for(lambda: len(self.kit.values) == count and finished())

    def kill(self) -> None:
        self.kit.crash()

    def finish(self) -> Counter[str]:
        self.kit.wait_acknowledged()
        self.kit.stop()
        assert self.kit.committed == {("input", 0): COUNT}
        return Counter(self.kit.values)


class KafkaLives:
    """With real processes and a real Kafka."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        scene.fill(COUNT)

    def start(self, pipeline: str, *, commits: bool = True, hold: bool = False) -> None:
        environment = {"HOLD": "1"} if hold else None
        self._commits = commits
        self._worker = self._scene.start(pipeline, None if commits else NEVER, environment=environment)

    def until_delivered(self, count: int) -> None:
        until(lambda: len(self._scene.delivered()) == count, 60, f"{count} deliveries")
        if self._commits:
            until(lambda: self._scene.told_finished() == count, 30, "the commits to tell of them")

    def kill(self) -> None:
        self._worker.kill()

    def finish(self) -> Counter[str]:
        self._scene.until_finished()
        assert self._worker.terminate() == 0
        return Counter((message.value() or b"").decode() for message in self._scene.delivered())


@pytest.fixture(params=["kit", pytest.param("kafka", marks=pytest.mark.integration)])
def lives(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lives]:
    """The same on both."""
    if request.param == "kit":
        yield KitLives(monkeypatch)
        return
    kafka: Kafka = request.getfixturevalue("kafka")
    scene = Scene(kafka.bootstrap, tmp_path, partitions=1)
    yield KafkaLives(scene)
    scene.close()


def test_what_was_delivered_and_not_committed_comes_again(lives: Lives) -> None:
    """Everything twice, nothing lost."""
    lives.start("precomputed", commits=False)
    lives.until_delivered(COUNT)
    lives.kill()
    lives.start("precomputed")
    assert lives.finish() == {str(number): 2 for number in range(COUNT)}


def test_what_is_known_to_be_finished_behind_a_slow_record_does_not_come_again(lives: Lives) -> None:
    """Number 0 was under way when the process died: it comes, and the others don't."""
    lives.start("held", hold=True)
    lives.until_delivered(COUNT - 1)
    lives.kill()
    lives.start("held")
    assert lives.finish() == {str(number): 1 for number in range(COUNT)}
