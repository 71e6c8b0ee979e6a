"""Timers of a step with state: kept in the ledgers, and in order of time for each assignment."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

from drakkar_flow.kernel.ledger import Ledger
from drakkar_flow.kernel.timers import Timers
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import StateCodec

__all__ = ["StepTimers", "at_ms", "encode_time"]

_TIMES = StateCodec(int)
_LONGEST_S = 1e11  # 3,000 years


class _Assigned(NamedTuple):
    epoch: int
    ledger: Ledger
    timers: Timers


class StepTimers:
    """Timers of each partition's newest assignment; `step` is the id under which their times are kept."""

    def __init__(self, step: str) -> None:
        self.step = step
        self._assigned: dict[TopicPartition, _Assigned] = {}

    def of(self, topic_partition: TopicPartition, epoch: int, ledger: Ledger) -> Timers:
        """Return the timers of an assignment; call it with the ledgers locked, before the assignment's first change."""
        assigned = self._assigned.get(topic_partition)
        if assigned is None or assigned.epoch != epoch or assigned.ledger is not ledger:
            timers = Timers({key: _TIMES.decode(value) for key, value in ledger.final.of(self.step).items()})
            assigned = self._assigned[topic_partition] = _Assigned(epoch, ledger, timers)
        return assigned.timers


def at_ms(delay_s: Any, now_ms: int, owner: str) -> int:
    """Return the time of a timer that is due in `delay_s` seconds; a negative delay counts as none.

    Raises:
        TypeError: the delay is no number; `owner` names the code that gave it.
    """
    if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not isfinite(delay_s):
        raise TypeError(f"the timer of {owner} must be seconds from now or None, not {delay_s!r:.80}")
    return now_ms + round(min(max(delay_s, 0), _LONGEST_S) * 1000)


def encode_time(time_ms: int | None, now_ms: int) -> bytes | None:
    """Return the stored value of a timer's time; None for a timer that is cancelled."""
    return None if time_ms is None else _TIMES.encode(time_ms, now_ms)
