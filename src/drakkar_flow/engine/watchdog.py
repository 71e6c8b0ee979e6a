"""Watchdog: a thread that detects stalls and idle slots, and emits events for them."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from drakkar_flow.kernel.stalls import StallDetector
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered, Stalled, StallEnded
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.steps.waits import Wait, waits_of

__all__ = ["Watchdog"]

_TICK_S = 0.5
_LATE_S = 0.1  # a loop that takes longer to answer is late
ASK_S = 1.0  # timeout of the loop to report the waits of a partition
_CALLS = 5  # maximum of stacks per partition
_FRAMES = 50  # of a thread's stack: below the frames of a hook may be those of a library
_LOOP_THREAD, _READER_THREAD = "drakkar-loop", "drakkar-reader"

Stacks = tuple[tuple[str, str], ...]


class Watchdog:
    """Checks for stalls twice a second, from `start` to `close`.

    - A partition with records in flight stalls if no record and no task of it has ended for `runtime.stuck_after_s`.
    - The loop, or a thread of the engine, stalls if it makes no turn for `runtime.blocked_after_s`.

    Each stall is reported once, with the stacks of the blocking calls, and once more at its end. `also` is called at
    each check, with monotonic seconds.
    """

    def __init__(self, components: Components, also: Callable[[float], object] = lambda _: None) -> None:
        self._components = components
        self._also = also
        runtime = components.config.runtime
        self._topic_partitions = self._detector(runtime.stuck_after_s)
        self._threads = self._detector(runtime.blocked_after_s)
        self._answers = 0
        self._asked_at: float | None = None
        self._looked_at = time.monotonic()
        self._late = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drakkar-watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; safe to call twice and before `start`."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def health(self) -> int:
        """Health: 0 is healthy, 1 a late loop, 2 a stall."""
        if self._topic_partitions.stalled or self._threads.stalled:
            return 2
        return int(self._late)

    @property
    def heartbeats(self) -> dict[str, float]:
        """Seconds since the last turn of the loop and of the engine, at most half a second too high."""
        engine = max((self._threads.age_s(ident) for ident in list(self._components.control.turns)), default=0.0)
        return {"loop": self._threads.age_s("loop"), "engine": engine}

    def look(self, now: float) -> None:
        """Compare the state with that of the last check and emit the changes; `now` is monotonic seconds."""
        self._ask_loop(now)
        components = self._components
        waits = components.in_flight.source_ended  # for other processes of the cluster
        turns = {} if waits else components.control.turns
        signs: dict[str | int, int] = dict([("loop", self._answers), *turns.items()])
        begun, ended = self._threads.look(signs, now)
        for key, for_s in begun.items():
            what = "loop" if key == "loop" else "engine"
            idents = self._idents(_LOOP_THREAD) if key == "loop" else [key]
            self._components.bus.emit(Stalled(what, for_s, stacks=_thread_stacks(what, idents)))
        for key, after_s in ended.items():
            self._components.bus.emit(StallEnded("loop" if key == "loop" else "engine", after_s))
        self._check_partitions(now)
        self._check_idleness(now)

    def _run(self) -> None:
        while not self._closing.wait(_TICK_S):
            now = time.monotonic()
            self.look(now)
            self._also(now)

    @staticmethod
    def _detector(after_s: float) -> StallDetector[Any]:
        return StallDetector(after_s or float("inf"), max_step_s=2 * _TICK_S)

    def _ask_loop(self, now: float) -> None:
        self._late = self._asked_at is not None and now - self._asked_at >= _LATE_S
        if self._asked_at is None:
            self._asked_at = now
            self._components.loop_thread.post(self._answer, time.monotonic())

    def _answer(self, asked_at: float) -> None:
        self._answers += 1
        self._asked_at = None
        self._components.bus.emit(LoopAnswered(time.monotonic() - asked_at))

    def _check_partitions(self, now: float) -> None:
        in_flight, ended_tasks = self._components.in_flight.statistics(), self._components.pending.ended
        signs = {
            topic_partition: (
                count,
                offset,
                in_flight.finished_at.get(topic_partition),
                ended_tasks.get(topic_partition),
            )
            for topic_partition, count in in_flight.by_partition.items()
            for offset, _ in [in_flight.oldest.get(topic_partition, (-1, 0.0))]
        }
        begun, ended = self._topic_partitions.look(signs, now)
        if begun:
            waits, threads = self._ask_for_waits(list(begun)), self._all_threads()
            for topic_partition, for_s in begun.items():
                self._components.bus.emit(
                    _stalled(topic_partition, signs[topic_partition][1], for_s, waits.get(topic_partition), threads)
                )
        for topic_partition, after_s in ended.items():
            self._components.bus.emit(StallEnded("partition", after_s, topic_partition))

    def _ask_for_waits(self, topic_partitions: list[TopicPartition]) -> dict[TopicPartition, list[Wait]]:
        """Return the waits of each partition; empty if the loop does not answer."""

        async def ask() -> dict[TopicPartition, list[Wait]]:
            return {
                topic_partition: waits_of(self._components.steps, topic_partition, _CALLS)
                for topic_partition in topic_partitions
            }

        try:
            return self._components.loop_thread.run(ask(), ASK_S)
        except (TimeoutError, RuntimeError):
            return {}

    def _all_threads(self) -> Stacks:
        return (
            *_thread_stacks("loop", self._idents(_LOOP_THREAD)),
            *_thread_stacks("engine", self._components.control.turns),
            *_thread_stacks("reader", self._idents(_READER_THREAD)),
        )

    def _check_idleness(self, now: float) -> None:
        components, passed_s = self._components, min(now - self._looked_at, 2 * _TICK_S)
        self._looked_at = now
        queued = components.reader.statistics().queued
        load = components.executor.statistics() if components.executor is not None else None
        waiting = sum(queued.values())
        slots_s = (load.slots - load.running) * passed_s if load is not None and waiting else 0.0
        idle = queued and not waiting and components.in_flight.records == 0
        if slots_s or idle:
            components.bus.emit(Idled(slots_s, passed_s if idle else 0.0))

    @staticmethod
    def _idents(name: str) -> list[int]:
        return [thread.ident for thread in threading.enumerate() if thread.name == name and thread.ident is not None]


def _stalled(
    topic_partition: TopicPartition, offset: int, for_s: float, waits: list[Wait] | None, threads: Stacks
) -> Stalled:
    if waits is None:
        return Stalled("partition", for_s, topic_partition, offset, "the event loop", threads)
    calls = [(f"{wait.step} {wait.record.label if wait.record else ''}", "\n".join(wait.stack)) for wait in waits]
    waits_for = ", ".join(dict.fromkeys(wait.step for wait in waits)) or "the engine"
    return Stalled("partition", for_s, topic_partition, offset, waits_for, (*calls, *threads))


def _thread_stacks(what: str, idents: Iterable[int]) -> Stacks:
    """Return the current stacks of threads, innermost frame last."""
    frames = sys._current_frames()  # noqa: SLF001 - the only way to get the stack of another thread
    found = [frames[ident] for ident in idents if ident in frames]
    return tuple((f"{what} thread", "".join(traceback.format_stack(frame)[-_FRAMES:])) for frame in found)
