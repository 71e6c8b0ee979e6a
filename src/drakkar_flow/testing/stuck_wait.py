"""Stuck wait: detects that a test waits in vain, and lists the unfinished work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.testing.clock import FakeClock
from drakkar_flow.testing.executor import ScriptedExecutor
from drakkar_flow.testing.reader import MemoryReader
from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink

__all__ = ["StuckWait", "outstanding"]

_GRACE_S = 1.0  # real seconds in which another thread of the test may still act
_IDLE_JUMPS = 100  # of the clock, from one periodic function to the next


class StuckWait:
    """Detects a wait in vain: no step makes progress, and no timer is left that could change that.

    `is_empty` returns, if there is no clock, whether no work at all is under way.
    """

    def __init__(self, clock: FakeClock | None, is_empty: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_empty = is_empty
        self._since: float | None = None

    def reason(self) -> str:
        """Reason why nothing more can happen, once that has lasted; empty while something can."""
        reason = self._reason()
        now = time.monotonic()
        if not reason:
            self._since = None
        elif self._since is None:
            self._since = now
        return reason if self._since is not None and now - self._since >= _GRACE_S else ""

    def _reason(self) -> str:
        if self._clock is None:
            return "no work is under way, and no more input follows" if self._is_empty() else ""
        if self._clock.idle_jumps >= _IDLE_JUMPS:
            return f"only periodic functions go on, by now {self._clock.now:g} s after the start"
        return "nothing more can happen: the flow makes no progress, and no timer runs" if self._clock.spent else ""


def outstanding(
    in_flight: InFlight,
    reader: MemoryReader,
    steps: Iterable[AsyncStep[Any, Any]],
    executor: object,
    sinks: Mapping[str, MemorySink],
    dead_letters: MemoryDeadLetters,
) -> list[str]:
    """Return the unfinished work, and the gates and partitions for which it waits."""
    open_now = in_flight.statistics()
    topic_partitions = (
        ", ".join(f"{topic}:{number} {count}" for (topic, number), count in open_now.by_partition.items()) or "none"
    )
    lines = [f"in flight: {topic_partitions}"]
    busy = Counter({step.step_id: step.open for step in steps if step.open})
    if busy:
        lines.append(f"at work: {', '.join(f'{step} {count}' for step, count in busy.items())}")
    if isinstance(executor, ScriptedExecutor) and executor.running:
        lines.append(f"tasks that run: {', '.join(executor.running)}")
    gates = {**{sink_id: sink.gate for sink_id, sink in sinks.items()}, "the dead letters": dead_letters.gate}
    if isinstance(executor, ScriptedExecutor):
        gates |= {(f"task {name}" if name else "all tasks"): gate for name, gate in executor.gates.items()}
    shut = [name for name, gate in gates.items() if gate.waiting]
    if shut:
        lines.append(f"held at a gate that is shut: {', '.join(shut)}")
    taken = [f"{topic}:{number}" for topic, number in reader.topic_partitions if (topic, number) not in reader.assigned]
    if taken:
        lines.append(f"partitions that are not assigned: {', '.join(taken)}")
    return lines
