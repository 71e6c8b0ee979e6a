"""Sampling: which tasks and records are kept when there are more than fit. Pure."""

from __future__ import annotations

from zlib import crc32

from drakkar_flow.model.record import TopicPartition
from drakkar_flow.recorder.fold.ticks import bucket_of, quantile

__all__ = ["Budget", "SlowTasks", "TaskSampler", "id_hash", "is_sampled", "is_traced", "traced_in"]

_LEAST_RUNS = 100  # before a program has a p99
_ALL_RUNS = 1_000
_MAX_PROGRAMS = 500
_HALVE_AT = 20_000  # counted runs, so that the p99 follows the present


def id_hash(text: str) -> int:
    """Return the number by which a task id is found and sampled."""
    return crc32(text.encode(errors="surrogatepass"))


class Budget:
    """At most `per_second` units in each second.

    >>> budget = Budget(2)
    >>> [budget.take(7), budget.take(7), budget.take(7), budget.take(8)]
    [True, True, False, True]
    """

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = -1
        self._used = 0

    def take(self, second: int, units: int = 1) -> bool:
        """Return True if the units fit into the second."""
        if second != self._second:
            self._second, self._used = second, 0
        if self._used + units > self._per_second:
            return False
        self._used += units
        return True


class SlowTasks:
    """Knows the 99th percentile of each program's durations."""

    def __init__(self) -> None:
        self._buckets: dict[str, dict[int, int]] = {}
        self._runs: dict[str, int] = {}
        self._limits: dict[str, float] = {}

    def is_slow(self, program: str, duration_s: float) -> bool:
        """Count a run; True if it took longer than the p99 of the runs before. Of many runs one in eight is counted."""
        runs = self._runs.get(program)
        if runs is None:
            if len(self._runs) >= _MAX_PROGRAMS:
                return False
            runs = 0
        self._runs[program] = runs = runs + 1
        slow = runs > _LEAST_RUNS and duration_s > self._limits[program]
        if runs <= _ALL_RUNS or runs & 7 == 0:
            self._count(program, runs, duration_s)
        return slow

    def _count(self, program: str, runs: int, duration_s: float) -> None:
        buckets = self._buckets.setdefault(program, {})
        number = bucket_of(duration_s)
        buckets[number] = buckets.get(number, 0) + 1
        if runs == _LEAST_RUNS or runs % _ALL_RUNS == 0:
            self._limits[program] = quantile(buckets, 0.99) * 1.08  # the error of a bucket
            if sum(buckets.values()) >= _HALVE_AT:
                self._buckets[program] = {number: count // 2 for number, count in buckets.items() if count > 1}


class TaskSampler:
    """Keeps all tasks while at most `per_second` end in a second, else 1 in n.

    >>> sampler = TaskSampler(per_second=10)
    >>> sampler.begin(0, 5), sampler.begin(0, 35), sampler.begin(1, 5), sampler.begin(9, 5)
    (1, 4, 4, 1)
    """

    def __init__(self, per_second: int = 5_000) -> None:
        self._per_second = per_second
        self._second = -1
        self._ended = 0
        self._n = 1

    def begin(self, second: int, count: int) -> int:
        """Note that `count` tasks end in a second; returns n, the number of tasks that a kept one stands for."""
        if second != self._second:
            self._n = max(1, -(-self._ended // self._per_second)) if second == self._second + 1 else 1
            self._second, self._ended = second, 0
        self._ended += count
        self._n = max(self._n, -(-self._ended // self._per_second))
        return self._n


def is_sampled(offset: int, n: int) -> bool:
    """Return True for about one in n offsets, so that all tasks of a record are kept or none.

    >>> sum(is_sampled(offset, 4) for offset in range(1000))
    250
    """
    return (offset * 0x9E3779B1 >> 8) % n == 0


def is_traced(topic_partition: TopicPartition, offset: int, every: int) -> bool:
    """Return True if a record is traced: one offset of each block of `every`, the same on every worker.

    >>> sum(is_traced(("in", 0), offset, 1000) for offset in range(10_000))
    10
    """
    return every > 0 and offset == _traced(topic_partition, offset // every, every)


def traced_in(topic_partition: TopicPartition, first: int, last: int, every: int) -> list[int]:
    """Return the traced offsets from `first` to `last`: a computation per block, none per record."""
    if every <= 0:
        return []
    found = [_traced(topic_partition, block, every) for block in range(first // every, last // every + 1)]
    return [offset for offset in found if first <= offset <= last]


def _traced(topic_partition: TopicPartition, block: int, every: int) -> int:
    topic, partition = topic_partition
    return block * every + id_hash(f"{topic}:{partition}:{block}") % every
