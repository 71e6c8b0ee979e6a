"""Writer: folds the buffered events, writes them, rotates files, and gives up parts of its work in trouble.

Called on one thread. A trouble never leaves it: the oldest recording is removed, then details are given up, then
writing. The states are emitted as events.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderDropped, RecorderFailed, RecordingFaulty
from drakkar_flow.recorder.fold.folder import Batch, Folder, Memory
from drakkar_flow.recorder.fold.keys import Timeline
from drakkar_flow.recorder.keeper import Retention, keep, remove_oldest, seal, seal_ended
from drakkar_flow.recorder.live_file import LiveFile
from drakkar_flow.recorder.place import LIVE
from drakkar_flow.recorder.schema import DETAILS
from drakkar_flow.recorder.settings import RecorderSettings
from drakkar_flow.storage.sqlite import is_full

__all__ = ["Writer"]

_RECENT_S = 600  # ticks of a second are kept for that long, then those of ten
_FOLDED_SPAN_S = 10
_FOLD_EVERY_S = 60.0
_AGAIN_S = 30.0  # between two attempts after writing was given up
_FULL_ROUNDS = 50  # oldest recordings removed for one batch
_KEEP_EVERY_S = 600.0
_NEARLY = 0.9  # an error wakes the writer early: rows of spans must not multiply by that
_UNWRITTEN = (sqlite3.Error, OSError, ValueError, OverflowError)  # also values that SQLite does not take
_STEP_PAUSE_S = 10.0  # between two new files because the wall clock was set

Clock = Callable[[], tuple[int, int]]
"""Nanoseconds of the wall clock and of the monotonic clock."""


def system_clock() -> tuple[int, int]:
    """Return the clocks of the system."""
    return time.time_ns(), time.monotonic_ns()


class Writer:
    """Writes to the live file of one worker directory below `root`."""

    def __init__(
        self, settings: RecorderSettings, root: Path, place: Path, bus: Bus, clock: Clock = system_clock
    ) -> None:
        self._settings = settings
        self._root = root
        self._place = place
        self._bus = bus
        self._clock = clock
        self._memory = Memory(settings.trace_every)
        self._file: LiveFile | None = None
        self._folder = self._new_folder()
        wall, monotonic = clock()
        self._timeline = Timeline(wall, monotonic)
        self._state = "full"
        self._gauges_at = self._folded_at = self._kept_at = self._checked_at = self._stepped_at = monotonic / 1e9
        self._spans_at = 0.0
        self._again_at = 0.0
        self._unsealed: list[Path] = []  # files of this worker that are not written any more
        self._keepers: list[Thread] = []
        self._reported: Counter[str] = Counter()

    def open(self) -> None:
        """Make the first file, and have the files of ended processes sealed."""
        self._unsealed = sorted(self._place.glob(f"*{LIVE}"))
        self._open_file()
        self._in_background(self._tidy)

    def turn(self, items: Iterable[tuple[int, object]], dropped: Counter[str]) -> None:
        """Write the items, each with its monotonic nanoseconds, and do the work that is due. Never raises."""
        wall_ns, monotonic_ns = self._clock()
        now = monotonic_ns / 1e9
        for at, item in items:
            try:
                self._folder.add(item, self._timeline.us(at))
            except Exception as exc:  # an event that can't be folded must cost no others
                dropped["events"] += 1
                self._bus.emit(RecorderFailed(f"{type(item).__name__}: {type(exc).__name__}: {exc}"))
        if now - self._gauges_at >= self._settings.gauge_s:
            self._gauges_at = now
            with suppress(Exception):  # read while the flow starts or ends
                self._folder.gauges(self._settings.gauges(), self._timeline.us(monotonic_ns))
        spans = now - self._spans_at >= self._settings.flush_s * _NEARLY
        if spans:
            self._spans_at = now
        self._write(self._folder.take(spans=spans), now)
        self._report(dropped)
        self._rotate_if_due(wall_ns, monotonic_ns)
        self._tend(now)

    def close(self) -> None:
        """Write the rest and seal the file."""
        _, monotonic_ns = self._clock()
        self._write(self._folder.take(all_spans=True), monotonic_ns / 1e9)
        self._report(Counter())
        if self._file is not None:
            self._seal(self._file, "clean", self._timeline.us(monotonic_ns))
            self._file = None
        for keeper in self._keepers:
            keeper.join(1.0)

    # --- writing ----------------------------------------------------------------------------------

    def _write(self, batch: Batch, now: float) -> None:
        if self._file is None:  # the numbers of these rows' names are those of a file that is lost
            self._lose(batch)
            if now >= self._again_at:
                self._open_file()
            return
        if self._state == "without_details" or not self._settings.details:
            self._lose({table: batch.pop(table, []) for table in DETAILS} if self._state != "full" else {})
            batch = {table: rows for table, rows in batch.items() if table not in DETAILS}
        if not any(batch.values()):
            return
        for _ in range(_FULL_ROUNDS):
            assert self._file is not None
            try:
                self._file.write(batch)
            except _UNWRITTEN as exc:
                if is_full(exc) and remove_oldest(self._root):
                    continue
                self._give_up(batch, exc, now)
            return
        self._give_up(batch, OSError(errno.ENOSPC, "no space left"), now)

    def _give_up(self, batch: Batch, error: Exception, now: float) -> None:
        """Give up details if the disk is full, else, or if that does not help, writing for a while."""
        reason = f"{type(error).__name__}: {error}"
        if is_full(error) and self._state == "full":
            self._change("without_details", reason)
            lean = {table: rows for table, rows in batch.items() if table not in DETAILS}
            self._lose({table: batch.get(table, []) for table in DETAILS})
            self._again_at = now + _AGAIN_S
            try:
                assert self._file is not None
                self._file.write(lean)
            except _UNWRITTEN as exc:
                self._give_up(lean, exc, now)
            return
        self._change("off", reason)
        self._lose(batch)
        self._again_at = now + _AGAIN_S
        if self._file is not None:
            self._file.discard()
            self._unsealed.append(self._file.path)
            self._file = None

    def _lose(self, batch: Batch) -> None:
        for table, rows in batch.items():
            if rows and table != "names":
                self._memory.dropped[table] += len(rows)

    def _change(self, state: str, reason: str = "") -> None:
        if state != self._state:
            self._state = state
            self._bus.emit(RecorderChanged(state, reason))

    def _report(self, dropped: Counter[str]) -> None:
        lost = dropped + self._memory.dropped
        self._memory.dropped.clear()
        for kind, count in lost.items():
            self._bus.emit(RecorderDropped(kind, count))

    # --- files ------------------------------------------------------------------------------------

    def _new_folder(self) -> Folder:
        return Folder(self._memory, self._settings.redact, self._settings.min_task_s)

    def _open_file(self) -> bool:
        wall_ns, monotonic_ns = self._clock()
        self._timeline = Timeline(wall_ns, monotonic_ns)
        self._folder = self._new_folder()
        try:
            self._file = LiveFile(
                self._place, wall_ns // 1000, {"worker": self._settings.worker, **self._settings.meta}
            )
        except (sqlite3.Error, OSError) as exc:
            self._again_at = monotonic_ns / 1e9 + _AGAIN_S
            self._change("off", f"{type(exc).__name__}: {exc}")
            return False
        if self._state == "off":
            self._change("full")
        return True

    def _rotate_if_due(self, wall_ns: int, monotonic_ns: int) -> None:
        file, now = self._file, monotonic_ns / 1e9
        if file is None:
            return
        us = self._timeline.us(monotonic_ns)
        step_us = self._timeline.step_us(wall_ns, monotonic_ns)
        if step_us and now - self._stepped_at < _STEP_PAUSE_S:
            step_us = 0
        old = us - file.began_us >= self._settings.rotate_s * 1e6 or file.size >= self._settings.rotate_size
        if not old and not step_us:
            return
        self._write(self._folder.take(all_spans=True), now)
        if self._file is None:
            return
        self._in_background(self._seal, file, "rotated" if not step_us else "clock_set", us)
        self._file = None
        if self._open_file() and step_us:
            self._stepped_at = now
            self._folder.note("clock_set", {"by_s": step_us / 1e6}, wall_ns // 1000)

    def _tend(self, now: float) -> None:
        """Fold old ticks, notice a removed file, try to return to details, apply the retention."""
        file = self._file
        if file is not None and now - self._checked_at >= 1.0:
            self._checked_at = now
            if not file.is_there:
                self._change("off", f"{file.path} was removed")
                file.discard()
                self._file = None
                self._open_file()
        if self._file is not None and now - self._folded_at >= _FOLD_EVERY_S:
            self._folded_at = now
            second = self._timeline.us(int(now * 1e9)) // 1_000_000
            with suppress(sqlite3.Error):
                self._file.fold_ticks(second - _RECENT_S, _FOLDED_SPAN_S)
        if self._state == "without_details" and now >= self._again_at:
            self._change("full")
        if now - self._kept_at >= _KEEP_EVERY_S:
            self._kept_at = now
            self._in_background(self._keep)

    def _in_background(self, work: Callable[..., None], *arguments: object) -> None:
        self._keepers = [keeper for keeper in self._keepers if keeper.is_alive()]
        thread = Thread(target=work, args=arguments, name="drakkar-recorder-keeper", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the host lacks threads: the next time, or the next start, does it
            return
        self._keepers.append(thread)

    def _tidy(self) -> None:
        seal_ended(self._root, self._place, self._faulty)
        self._keep()

    def _keep(self) -> None:
        left, self._unsealed = self._unsealed, []
        seal(left, self._faulty)
        with suppress(OSError):
            keep(self._root, Retention(self._settings.keep_size, self._settings.keep_s))

    def _seal(self, file: LiveFile, ended: str, us: int) -> None:
        try:
            file.seal(ended, us)
        except (sqlite3.Error, OSError) as exc:
            file.discard()
            self._unsealed.append(file.path)
            self._faulty(file.path, exc)
            return
        if ended != "clean":
            self._keep()

    def _faulty(self, path: Path, error: Exception) -> None:
        self._bus.emit(RecordingFaulty(str(path), f"{type(error).__name__}: {error}"))
