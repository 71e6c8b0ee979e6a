"""Progress lines while a flow runs, and a summary at its end: results, rates, unfinished records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot, Totals

__all__ = ["Progress", "summary"]

_QUIET = 20  # an idle flow writes only every 20th line


class Progress:
    """Writes a line every `interval_s` seconds (0: never), less often while the flow is idle.

    One thread calls `look` often, with monotonic seconds.
    """

    def __init__(
        self,
        statistics: Callable[[], StatisticsSnapshot],
        gauges: Callable[[], RuntimeGauges],
        write: Callable[[LogLine], object],
        interval_s: float,
    ) -> None:
        self._statistics = statistics
        self._gauges = gauges
        self._write = write
        self._interval_s = interval_s
        self._began: float | None = None
        self._before = Totals()
        self._idle = 0

    def look(self, now: float) -> None:
        """Write a line if it is due."""
        if self._began is None:
            self._began, self._before = now, self._statistics().totals
        elapsed_s = now - self._began
        if not self._interval_s or elapsed_s < self._interval_s:
            return
        totals, gauges = self._statistics().totals, self._gauges()
        is_idle = totals == self._before and not gauges.in_flight_records and not sum(gauges.lag.values())
        self._idle = self._idle + 1 if is_idle else 0
        if not is_idle or self._idle % _QUIET == 0:
            self._write(_line(totals, self._before, gauges, elapsed_s))
        self._began, self._before = now, totals


def summary(snapshot: StatisticsSnapshot) -> LogLine:
    """Return the last line of a run, after success or failure."""
    totals = snapshot.totals
    fields: dict[str, Any] = {
        "duration_s": round(snapshot.uptime_s, 3),
        "read": totals.records_read,
        "finished": totals.records_finished,
        "finished_per_s": _rate(totals.records_finished, snapshot.uptime_s),
        "skipped": totals.records_skipped,
        "dead": totals.records_dead,
        **_troubles(totals),
        "tasks": totals.tasks_completed + totals.tasks_failed,
        "record_p50_s": round(snapshot.record_p50_s, 3),
        "record_p99_s": round(snapshot.record_p99_s, 3),
        "written": {f"{kind}:{name}": sink.written for (kind, name), sink in sorted(snapshot.sinks.items())},
    }
    return LogLine("info", "drakkar_summary", fields)


def _line(totals: Totals, before: Totals, gauges: RuntimeGauges, elapsed_s: float) -> LogLine:
    fields: dict[str, Any] = {
        "finished": totals.records_finished,
        "finished_per_s": _rate(totals.records_finished - before.records_finished, elapsed_s),
        "lag": sum(gauges.lag.values()),
        "in_flight": gauges.in_flight_records,
        "oldest_s": round(max(gauges.oldest_s.values(), default=0.0), 1),
        **_troubles(totals),
    }
    return LogLine("info", "drakkar_progress", fields)


def _troubles(totals: Totals) -> dict[str, int]:
    return {
        "failed": totals.records_failed,
        "tasks_failed": totals.tasks_failed,
        "retried": totals.task_retries,
        "dead_letters": totals.dead_letters,
    }


def _rate(count: int, elapsed_s: float) -> float:
    return round(count / elapsed_s, 1) if elapsed_s > 0 else 0.0
