"""A drill of a consumer group: members come, go, die and stand still while records are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from support.commit_log import CommitLog
from support.feeder import Feeder
from support.scene import COMMAND, Scene
from support.worker import Worker

__all__ = ["IN_FLIGHT", "GroupDrill", "advance"]

IN_FLIGHT = 100
"""The most records of a member that are in flight, or finished and not committed: the bounds of a scene."""


class GroupDrill:
    """One flow, its topic, and its group.

    The output's keys must be the labels of source records, and its values their values.

    Args:
        scene: its topics are those of the flow.
        flow: a pipeline of the integration tests, or a path without its suffix.
        settings: of the flow, laid over the scene's.
        check_state: called at the end with the numbers that were written: state has each of them once.
        program: what stands for the command after `python`.
    """

    def __init__(
        self,
        scene: Scene,
        flow: str = "precomputed",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        check_state: Callable[[range], None] | None = None,
        program: Sequence[str | Path] = COMMAND,
    ) -> None:
        self._scene = scene
        self._flow = flow
        self._settings = settings or {}
        self._check_state = check_state
        self._program = program
        self._commits = CommitLog(scene.bootstrap, scene.group, scene.source)
        self._fed: Feeder | None = None
        self.duplicates = 0

    def feeding(self, rate: float = 300.0) -> Feeder:
        """Something that writes records while its block runs."""
        self._fed = self._scene.feeding(rate)
        return self._fed

    def start(self, **kafka: Any) -> Worker:
        """Start a member with settings of the kafka section."""
        settings = {**self._settings, "kafka": {**self._settings.get("kafka", {}), **kafka}}
        worker = self._scene.start(self._flow, settings, program=self._program)
        print(f"{time.strftime('%H:%M:%S')} started {worker.pid}")
        return worker

    def advance(self, timeout_s: float = 180.0) -> None:
        """Wait until the commits of every partition have moved on."""
        advance(self._scene, timeout_s)

    def finish(self, workers: list[Worker]) -> None:
        """Wait until everything is committed, and stop the members."""
        self._scene.until_finished(180)
        for worker in workers:
            assert worker.terminate(timeout_s=120) == 0, worker.stderr

    def finished(self, test: str, faults: str, *, connections_broke: bool = False) -> tuple[object, ...]:
        """Check deliveries and all commits; returns the row for the table."""
        assert self._fed is not None
        count = self._fed.count
        self.duplicates = self._scene.check_delivered(count)
        delivered = self._scene.delivered()
        commits = self._commits.check(delivered, self._assigned_ms(), connections_broke=connections_broke)
        state = "none"
        if self._check_state is not None:
            self._check_state(range(count))
            state = "exact"
        print(f"{count} records, {commits} commits, {self.duplicates} duplicates")
        return (test, faults, f"{count:,}", 0, f"{self.duplicates:,}", state)

    def _assigned_ms(self) -> dict[int, list[int]]:
        """When each partition was assigned to a member, by the members' logs."""
        found: dict[int, list[int]] = {}
        for worker in self._scene.workers:
            for line in worker.lines("partitions_assigned"):
                at_ms = round(datetime.fromisoformat(line["timestamp"]).timestamp() * 1000)
                for name in line["partitions"]:
                    found.setdefault(int(name.rsplit(":", 1)[1]), []).append(at_ms)
        return found


def advance(scene: Scene, timeout_s: float = 180.0) -> None:
    """Wait until the commits of every partition have moved on; only while records are written."""
    before = scene.committed()
    deadline = time.monotonic() + timeout_s
    while True:
        now = scene.committed()
        behind = [at for at in range(scene.partitions) if now.get(at, 0) <= before.get(at, 0)]
        if not behind:
            return
        logs = "\n".join(worker.stderr[-1500:] for worker in scene.workers if worker.exit_code is None)
        assert time.monotonic() < deadline, f"the commits of partitions {behind} stay at {now}:\n{logs}"
        time.sleep(0.1)
