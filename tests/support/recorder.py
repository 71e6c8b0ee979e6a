"""Recorders for tests: a clock to move, a bus that notes, a writer without a thread."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from drakkar_flow.model.record import Watermark
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.recorder import (
    RecorderChanged,
    RecorderDropped,
    RecorderFailed,
    RecorderStarted,
    RecordingFaulty,
)
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.observe.events.source import RecordsConsumed
from drakkar_flow.observe.events.tasks import TaskAttempt, TaskFailed
from drakkar_flow.recorder.fold.captured import CAPTURES
from drakkar_flow.recorder.place import RECORDER
from drakkar_flow.recorder.recording import Recording
from drakkar_flow.recorder.settings import RecorderSettings
from drakkar_flow.recorder.writer import Writer
from drakkar_flow.storage.directory import WorkerDirectory
from support.until import until

__all__ = [
    "START_US",
    "FakeClock",
    "Noted",
    "WriterScene",
    "attempt",
    "consumed",
    "failed",
    "finished",
    "patient",
    "sealed",
]

START_US = 1_800_000_000_000_000


class FakeClock:
    """Wall clock and monotonic clock, moved by the test."""

    def __init__(self) -> None:
        self.wall_ns, self.monotonic_ns = START_US * 1000, 1_000_000_000

    def __call__(self) -> tuple[int, int]:
        return self.wall_ns, self.monotonic_ns

    def advance(self, seconds: float) -> None:
        """Move both."""
        self.wall_ns += int(seconds * 1e9)
        self.monotonic_ns += int(seconds * 1e9)

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock, as an operator or NTP does."""
        self.wall_ns += int(by_s * 1e9)


class Noted:
    """What a recorder said about itself."""

    def __init__(self, bus: Bus) -> None:
        self.events: list[Any] = []
        for kind in (RecorderStarted, RecorderChanged, RecorderFailed, RecordingFaulty):
            bus.listen(kind, self.events.append)
        self.dropped: Counter[str] = Counter()
        bus.listen(RecorderDropped, self._count)

    def _count(self, event: RecorderDropped) -> None:
        self.dropped[event.kind] += event.count

    @property
    def states(self) -> list[str]:
        """The states that it changed to."""
        return [event.state for event in self.events if isinstance(event, RecorderChanged)]


class WriterScene:
    """A writer on the test's thread, with a clock to move."""

    def __init__(self, root: Path, worker: str = "w-1", **settings: Any) -> None:
        self.root, self.clock, self.bus = root, FakeClock(), Bus()
        self.noted = Noted(self.bus)
        self.place = WorkerDirectory.take(root, worker, RECORDER)
        self.writer = Writer(RecorderSettings(worker, root, **settings), root, self.place.path, self.bus, self.clock)
        self.writer.open()

    def turn(self, *events: object, wait_s: float = 0.25) -> None:
        """Write some events that happened now, then move the clock."""
        now = self.clock()[1]
        items = [(now, CAPTURES.get(type(event), lambda each: each)(event)) for event in events]  # type: ignore[arg-type]
        self.writer.turn(items, Counter())
        self.clock.advance(wait_s)

    def crash(self, to: Path) -> None:
        """Leave an image of the directory as a crash at this moment would."""
        shutil.copytree(self.root, to, ignore=shutil.ignore_patterns("*-shm"))
        for path in (to, *to.iterdir()):
            path.chmod(0o700)

    def close(self) -> None:
        """Close the writer as at the end of a worker."""
        self.writer.close()
        self.place.release()


def consumed(first: int, last: int, partition: int = 0, epoch: int = 1, topic: str = "in") -> RecordsConsumed:
    """The read of all offsets from `first` to `last`, ten bytes each."""
    count = last - first + 1
    return RecordsConsumed((topic, partition), count, count * 10, first, last, epoch)


def finished(until: int, count: int, partition: int = 0, epoch: int = 1) -> RecordsFinished:
    """`count` records that finished, with a watermark."""
    at = ("in", partition)
    return RecordsFinished(count, 0, 0, 0.01, (Watermark(at, epoch, until),), ((at, epoch, count),))


def attempt(task_id: str, offset: int = 0, *, status: str = "completed", ran_s: float = 0.01) -> TaskAttempt:
    """An ended attempt."""
    code = 0 if status == "completed" else 2
    at = ("in", 0)
    return TaskAttempt(task_id, at, offset, offset, status, code, 0.0, 0.001, 0.002, ran_s, 77, 1, 1, ("", "/bin/jq"))


def failed(task_id: str, offset: int, stderr: str = "no such file", stdin: str = "") -> TaskFailed:
    """A failed attempt of a task of one record."""
    task = ExecutorTask(task_id=task_id, source_offsets=[offset], stdin=stdin or None)
    error = ExecutorError(task=task, exit_code=2, stderr=stderr, command=["/bin/jq", "."], pid=77)
    return TaskFailed(error, EventContext((("in", 0, offset),), (task_id,), 1))


def patient(*places: Path) -> Recording:
    """A reader that takes its time: the budget of a query is tested apart."""
    return Recording(*places, budget_s=60)


def sealed(root: Path) -> list[Path]:
    """The sealed files, when the keepers have done their work."""

    def found() -> list[Path]:
        return [] if list(root.glob("*/*.live.sqlite*")) else sorted(root.glob("*/*.sqlite"))

    return until(found, what="sealed files")
