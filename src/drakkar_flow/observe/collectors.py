"""The two kinds of metric that prometheus_client does not have: bulk histograms and gauges read when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from threading import Lock
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from drakkar_flow.model.record import Lane

__all__ = ["BulkHistogram", "RuntimeCollector", "RuntimeGauges"]


class BulkHistogram(Collector):
    """A histogram that takes the same value many times in one call; safe to use from any thread."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(buckets)
        self._lock = Lock()
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}  # labels -> (counts, [sum])
        if not labels:
            self._series[()] = self._empty()

    def observe(self, value: float, labels: tuple[str, ...] = (), count: int = 1) -> None:
        """Count `value` `count` times."""
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = self._empty()
            series[0][bisect_left(self._bounds, value)] += count
            series[1][0] += value * count

    def observe_all(self, values: Sequence[float]) -> None:
        """Count each of `values`; for a histogram without labels."""
        with self._lock:
            counts, total = self._series[()]
            for value in values:
                counts[bisect_left(self._bounds, value)] += 1
            total[0] += sum(values)

    def describe(self) -> Iterable[Metric]:
        """Name the metric without its samples."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its samples."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            series = [(labels, list(counts), total[0]) for labels, (counts, total) in self._series.items()]
        ends = [*map(str, map(float, self._bounds)), "+Inf"]
        for labels, counts, total in series:
            family.add_metric(labels, list(zip(ends, accumulate(counts), strict=True)), total)
        return [family]

    def _empty(self) -> tuple[list[int], list[float]]:
        return [0] * (len(self._bounds) + 1), [0.0]


class RuntimeGauges(NamedTuple):
    """What the runtime knows when it is asked, as opposed to what it tells by events.

    `queued` are records read and not yet handed to the first step, `pending` records read and not
    finished (the queued included), `lag` how many records the broker holds beyond the committed
    offset; partitions not assigned are left out of all three.
    """

    in_flight_records: int = 0
    in_flight_bytes: int = 0
    oldest_in_flight_s: float = 0.0
    executor_running: int = 0
    executor_waiting: int = 0
    executor_slots: int = 0
    offload_running: int = 0
    offload_queued: int = 0
    queued: Mapping[Lane, int] = {}
    pending: Mapping[Lane, int] = {}
    lag: Mapping[Lane, int] = {}


_GAUGES: dict[str, tuple[str, Callable[[RuntimeGauges], float]]] = {
    "in_flight_records": ("Records read and not finished", lambda g: g.in_flight_records),
    "in_flight_bytes": ("Bytes of key and value of the records read and not finished", lambda g: g.in_flight_bytes),
    "oldest_in_flight_seconds": (
        "Seconds since the oldest unfinished record was read",
        lambda g: g.oldest_in_flight_s,
    ),
    "buffered_records": ("Records read and not handed to the first step", lambda g: sum(g.queued.values())),
    "total_queued": (
        "Records not handed to the first step, plus tasks that wait or run",
        lambda g: sum(g.queued.values()) + g.executor_running + g.executor_waiting,
    ),
    "executor_pool_active": ("Programs that run", lambda g: g.executor_running),
    "executor_pool_max": ("Programs that may run at once", lambda g: g.executor_slots),
    "executor_pool_waiting": ("Tasks that wait for a slot", lambda g: g.executor_waiting),
    "offload_running": ("Offloaded calls that run", lambda g: g.offload_running),
    "offload_queued": ("Offloaded calls that wait for a thread", lambda g: g.offload_queued),
}

_LANE_GAUGES: dict[str, tuple[str, Callable[[RuntimeGauges], Mapping[Lane, int]]]] = {
    "partition_queue_size": ("Records read and not handed to the first step", lambda g: g.queued),
    "offset_lag": ("Records read and not finished; not the lag, see consumer_lag", lambda g: g.pending),
    "consumer_lag": ("Records the broker holds beyond the committed offset", lambda g: g.lag),
}


class RuntimeCollector(Collector):
    """Asks `read` for the runtime's gauges at each scrape; has no samples as long as `read` is None.

    `read` is called on the thread that serves the scrape; it must neither raise nor block.
    """

    def __init__(self, prefix: str) -> None:
        self.read: Callable[[], RuntimeGauges] | None = None
        self._prefix = prefix

    def describe(self) -> Iterable[Metric]:
        """Name the metrics without their samples."""
        for name, (documentation, _) in _GAUGES.items():
            yield GaugeMetricFamily(self._prefix + name, documentation)
        for name, (documentation, _) in _LANE_GAUGES.items():
            yield GaugeMetricFamily(self._prefix + name, documentation, labels=("topic", "partition"))

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they stand now."""
        if self.read is None:
            return
        gauges = self.read()
        for name, (documentation, value) in _GAUGES.items():
            yield GaugeMetricFamily(self._prefix + name, documentation, value=value(gauges))
        for name, (documentation, by_lane) in _LANE_GAUGES.items():
            family = GaugeMetricFamily(self._prefix + name, documentation, labels=("topic", "partition"))
            for (topic, partition), count in by_lane(gauges).items():
                family.add_metric((topic, str(partition)), count)
            yield family
