"""Recorder: the listener that buffers events, and the thread that writes them.

On the thread that emits, an event costs one append to a bounded buffer. Everything else, opening files included,
happens on the recorder's thread, so that no trouble of a disk reaches the flow.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.lifecycle import ListenerLagged, LogLineLost
from drakkar_flow.observe.events.recorder import RecorderChanged, RecorderDropped, RecorderFailed, RecorderStarted
from drakkar_flow.observe.events.source import ClientLogged
from drakkar_flow.observe.events.stalls import Idled
from drakkar_flow.observe.events.tasks import LongTaskRan, TaskAttempts, TaskFailed
from drakkar_flow.recorder.fold.captured import CAPTURES, Outputs, Trouble, outputs_of
from drakkar_flow.recorder.fold.folder import HOT
from drakkar_flow.recorder.place import RECORDER
from drakkar_flow.recorder.settings import RecorderSettings
from drakkar_flow.recorder.writer import Clock, Writer, system_clock
from drakkar_flow.storage.directory import DirectoryRefused, WorkerDirectory

__all__ = ["Recorder"]

_LEAST_S = 0.02  # between two writes, however many errors there are
_MAX_OUTPUT_BYTES = 8 * 1024 * 1024  # of outputs in the buffer
_DETAIL_SHARE = 2  # details may fill half of the buffer
_IGNORED: Final = frozenset(
    {
        RecorderChanged,
        RecorderDropped,
        RecorderFailed,
        RecorderStarted,
        ListenerLagged,
        LogLineLost,
        ClientLogged,
        Idled,
    }
)


class Recorder:
    """Records the events of a bus from `listen` to `close`."""

    def __init__(self, settings: RecorderSettings, clock: Clock = system_clock) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = time.monotonic_ns if clock is system_clock else lambda: clock()[1]
        self._buffer: deque[tuple[int, object]] = deque()
        self._dropped: Counter[str] = Counter()
        self._output_bytes = 0
        self._subscriptions: list[tuple[type[Event], Callable[[Any], None]]] = []
        self._wake = threading.Event()
        self._closing = False
        self._place: WorkerDirectory | None = None
        self._thread = threading.Thread(target=self._run, name="drakkar-recorder", daemon=True)

    def listen(self, bus: Bus) -> None:
        """Subscribe to the events of a bus, and start the thread; returns at once, whatever the disk does."""
        self._bus = bus
        for kind in _all_events(Event):
            if kind not in _IGNORED:
                self._subscriptions.append((kind, self._listener(kind)))
                bus.listen(*self._subscriptions[-1])
        try:
            self._thread.start()
        except RuntimeError as exc:  # the host lacks threads
            self._refuse(str(exc))

    def close(self, timeout_s: float) -> None:
        """Write the buffer and seal the file, for at most `timeout_s`; the next start does the rest."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def disown(self) -> None:
        """Release the lock in a forked child, where the recording belongs to the worker."""
        if self._place is not None:
            self._place.release()

    # --- on the threads that emit -----------------------------------------------------------------

    def _listener(self, kind: type[Event]) -> Callable[[Any], None]:
        buffer, now, most = self._buffer, self._monotonic, self._settings.max_buffer
        if kind in (TaskFailed, LongTaskRan) and self._settings.outputs:
            return self._keep_outputs
        if kind is LongTaskRan:
            return _ignore
        if (capture := CAPTURES.get(kind)) is not None:
            return lambda event: self._put(capture(event))
        limit = most if kind in HOT and kind is not TaskAttempts else most // _DETAIL_SHARE

        def put(event: Event) -> None:
            if len(buffer) < limit:
                buffer.append((now(), event))
            else:
                self._dropped["events"] += 1

        return put

    def _put(self, item: object) -> None:
        urgent = type(item) is Trouble
        if len(self._buffer) >= self._settings.max_buffer // (_DETAIL_SHARE if type(item) is Outputs else 1):
            self._dropped["events" if urgent else "outputs"] += 1
            return
        self._buffer.append((self._monotonic(), item))
        if urgent:
            self._wake.set()

    def _keep_outputs(self, event: TaskFailed | LongTaskRan) -> None:
        if isinstance(event, TaskFailed):
            self._put(CAPTURES[TaskFailed](event))
        kept = outputs_of(event.error if isinstance(event, TaskFailed) else event.result)
        if self._output_bytes + kept.size > _MAX_OUTPUT_BYTES:
            self._dropped["outputs"] += 1
        else:
            self._output_bytes += kept.size
            self._put(kept)

    # --- on the recorder's thread -----------------------------------------------------------------

    def _run(self) -> None:
        try:
            root = RECORDER.root(self._settings.directory, self._settings.environ)
            self._place = WorkerDirectory.take(root, self._settings.worker, RECORDER)
            self._write(root, self._place)
        except (DirectoryRefused, OSError) as exc:
            self._refuse(str(exc))
        except Exception as exc:  # a bug of ours must cost the recording, not the flow
            self._refuse(f"bug: {type(exc).__name__}: {exc}")
        finally:
            if self._place is not None:
                self._place.release()

    def _write(self, root: Path, place: WorkerDirectory) -> None:
        writer = Writer(self._settings, root, place.path, self._bus, self._clock)
        writer.open()
        self._bus.emit(RecorderStarted(str(place.path)))
        while not self._closing:
            self._wake.wait(self._settings.flush_s)
            if self._wake.is_set() and not self._closing:
                self._wake.clear()
                time.sleep(_LEAST_S)
            self._turn(writer)
        self._turn(writer)
        writer.close()

    def _turn(self, writer: Writer) -> None:
        items = [self._buffer.popleft() for _ in range(len(self._buffer))]
        self._output_bytes = 0
        dropped, self._dropped = self._dropped, Counter()
        writer.turn(items, dropped)

    def _refuse(self, reason: str) -> None:
        """Stop to record: events cost nothing any more."""
        for kind, listener in self._subscriptions:
            self._bus.unlisten(kind, listener)
        self._buffer.clear()
        self._bus.emit(RecorderChanged("off", reason))


def _ignore(_event: Event) -> None:
    pass


def _all_events(kind: type[Event]) -> list[type[Event]]:
    return [each for child in kind.__subclasses__() for each in (child, *_all_events(child))]
