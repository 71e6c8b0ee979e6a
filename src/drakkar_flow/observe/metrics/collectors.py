"""Collectors that prometheus_client does not have: bulk histograms, cheap counters, gauges read at each scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from threading import Lock
from typing import NamedTuple

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.metrics.metric_specs import EXECUTOR, METRICS

__all__ = ["BulkHistogram", "PlainCounter", "PlainGauge", "RuntimeCollector", "RuntimeGauges", "SharedMetrics"]


class PlainCounter(Collector):
    """A counter without an object per series, for two thirds of the cost; safe to use from any thread."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._lock = Lock()
        self._series: dict[tuple[str, ...], float] = {(): 0.0} if _has_plain_series(labels) else {}

    def inc(self, labels: tuple[str, ...] = (), by: float = 1) -> None:
        """Add `by` to the series of `labels`; creates the series."""
        with self._lock:
            self._series[labels] = self._series.get(labels, 0.0) + by

    def remove(self, labels: tuple[str, ...]) -> None:
        """Remove the series of `labels`, if it exists."""
        with self._lock:
            self._series.pop(labels, None)

    def describe(self) -> Iterable[Metric]:
        """Name the metric without its samples."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its samples."""
        family = self._family()
        with self._lock:
            series = list(self._series.items())
        for labels, value in series:
            family.add_metric(labels, value)
        return [family]

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily:
        return CounterMetricFamily(self._name, self._documentation, labels=self._labels)


class PlainGauge(PlainCounter):
    """A gauge with an optional last label; safe to use from any thread."""

    def set(self, labels: tuple[str, ...], value: float) -> None:
        """Set the series of `labels`; creates the series."""
        with self._lock:
            self._series[labels] = value

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._labels)


def _has_plain_series(labels: Sequence[str]) -> bool:
    """Return True if a metric has a series without labels, which exists from the start."""
    return all(label == EXECUTOR for label in labels)


class BulkHistogram(Collector):
    """A histogram that takes the same value many times in one call; safe to use from any thread."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(buckets)
        self._lock = Lock()
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}  # labels -> (counts, [sum])
        if _has_plain_series(labels):
            self._series[()] = self._empty()

    def observe(self, value: float, labels: tuple[str, ...] = (), count: int = 1) -> None:
        """Count `value` `count` times."""
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = self._empty()
            series[0][bisect_left(self._bounds, value)] += count
            series[1][0] += value * count

    def observe_all(self, values: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        """Count each of `values`."""
        with self._lock:
            if labels not in self._series:
                self._series[labels] = self._empty()
            counts, total = self._series[labels]
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
    """Gauges of the runtime, read at each scrape; events carry everything else.

    - `queued`: records read and not yet passed to the first step.
    - `pending`: records read and not finished, with the queued ones.
    - `lag`: records beyond the finished ones of the group.
    - `oldest_s`: age of the oldest unfinished record.
    - `stale_s`: time since a record finished while others waited.
    - `ranges`: ranges of records finished out of order.
    - `state`: final keys of keyed state, and the bytes of these and their values; empty if the flow keeps none.
    - `executors`: running and waiting tasks and slots of each named executor; the sums include them.

    Gauges by partition have only the assigned partitions.
    """

    in_flight_records: int = 0
    guest_records: int = 0
    in_flight_bytes: int = 0
    executor_running: int = 0
    executor_waiting: int = 0
    executor_slots: int = 0
    health: int = 0
    offload_running: int = 0
    offload_queued: int = 0
    queued: Mapping[TopicPartition, int] = {}
    pending: Mapping[TopicPartition, int] = {}
    lag: Mapping[TopicPartition, int] = {}
    executors: Mapping[str, tuple[int, int, int]] = {}
    oldest_s: Mapping[TopicPartition, float] = {}
    stale_s: Mapping[TopicPartition, float] = {}
    ranges: Mapping[TopicPartition, int] = {}
    state: Mapping[TopicPartition, tuple[int, int]] = {}


_GAUGES: dict[str, Callable[[RuntimeGauges], float]] = {
    "in_flight_records": lambda g: g.in_flight_records,
    "guest_records": lambda g: g.guest_records,
    "in_flight_bytes": lambda g: g.in_flight_bytes,
    "oldest_in_flight_seconds": lambda g: max(g.oldest_s.values(), default=0.0),
    "buffered_records": lambda g: sum(g.queued.values()),
    "total_queued": lambda g: sum(g.queued.values()) + g.executor_running + g.executor_waiting,
    "offload_running": lambda g: g.offload_running,
    "offload_queued": lambda g: g.offload_queued,
    "runtime_health_state": lambda g: g.health,
}

_EXECUTOR_GAUGES = ("executor_pool_active", "executor_pool_waiting", "executor_pool_max")
"""Metrics in the order of `RuntimeGauges.executors`; the default executor's values are the sums without named ones."""

_LANE_GAUGES: dict[str, Callable[[RuntimeGauges], Mapping[TopicPartition, float]]] = {
    "partition_queue_size": lambda g: g.queued,
    "offset_lag": lambda g: g.pending,
    "consumer_lag": lambda g: g.lag,
    "partition_oldest_in_flight_seconds": lambda g: g.oldest_s,
    "partition_staleness_seconds": lambda g: g.stale_s,
    "partition_finished_spans": lambda g: g.ranges,
    "state_keys": lambda g: {topic_partition: keys for topic_partition, (keys, _) in g.state.items()},
    "state_bytes": lambda g: {topic_partition: size for topic_partition, (_, size) in g.state.items()},
}


class RuntimeCollector(Collector):
    """Calls `read` for the runtime's gauges at each scrape; has no samples while `read` is None.

    `read` is called on the thread that serves the scrape; it must neither raise nor block.
    """

    def __init__(self, prefix: str) -> None:
        self.read: Callable[[], RuntimeGauges] | None = None
        self._prefix = prefix

    @property
    def names(self) -> frozenset[str]:
        """Return the names of its metrics in the specs."""
        return frozenset((*_GAUGES, *_EXECUTOR_GAUGES, *_LANE_GAUGES))

    def describe(self) -> Iterable[Metric]:
        """Name the metrics without their samples."""
        return [self._family(name) for name in (*_GAUGES, *_EXECUTOR_GAUGES, *_LANE_GAUGES)]

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current samples."""
        if self.read is None:
            return
        gauges = self.read()
        for name, value in _GAUGES.items():
            family = self._family(name)
            family.add_metric((), value(gauges))
            yield family
        for index, name in enumerate(_EXECUTOR_GAUGES):
            family = self._family(name)
            sums = (gauges.executor_running, gauges.executor_waiting, gauges.executor_slots)
            family.add_metric((), sums[index] - sum(values[index] for values in gauges.executors.values()))
            for executor, values in gauges.executors.items():
                family.add_metric((executor,), values[index])
            yield family
        for name, by_partition in _LANE_GAUGES.items():
            family = self._family(name)
            for (topic, partition), count in by_partition(gauges).items():
                family.add_metric((topic, str(partition)), count)
            yield family

    def _family(self, name: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._prefix + name, METRICS[name].help, labels=METRICS[name].labels)


class SharedMetrics(Collector):
    """Metrics of prometheus_client's default registry, where metrics are unless they are made with another one.

    Args:
        prefix: prefix of the library's metrics, which are left out.
        served: names that another collector serves; read at each scrape.
    """

    def __init__(self, prefix: str, served: Collection[str]) -> None:
        self._prefix = prefix
        self._served = served

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their current samples."""
        for metric in REGISTRY.collect():
            if metric.name not in self._served and not metric.name.startswith(self._prefix):
                yield metric
