"""Samples of a worker: what the system and its metrics page say that it holds."""

from __future__ import annotations

from contextlib import suppress

import psutil

from soak.trend import Trend, trend
from support.worker import Worker

__all__ = ["FLOORS", "Watch"]

FLOORS = {
    "memory": 4.0,
    "memory of children": 4.0,
    "descriptors": 3.0,
    "threads": 1.0,
    "children": 1.0,
    "records in flight": 50.0,
    "records waiting": 50.0,
    "keys of state": 1.0,
    "ranges beyond the commit": 5.0,
}
"""Quantities, with the growth over a run that says nothing: MiB of memory, else numbers."""

_METRICS = {
    "records in flight": "drakkar_in_flight_records",
    "records waiting": "drakkar_partition_queue_size",
    "keys of state": "drakkar_state_keys",
    "ranges beyond the commit": "drakkar_partition_finished_spans",
}
_MIB = 1024 * 1024


class Watch:
    """Samples of one worker, in order of time."""

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self.worker = worker
        self.samples: list[tuple[float, dict[str, float]]] = []
        self._process = psutil.Process(worker.pid)

    def sample(self, at_s: float) -> None:
        """Take a sample."""
        process, found = self._process, dict[str, float]()
        with suppress(psutil.NoSuchProcess):
            children = process.children(recursive=True)
            found["memory"] = process.memory_info().rss / _MIB
            found["descriptors"] = process.num_fds()
            found["threads"] = process.num_threads()
            found["children"] = len(children)
            found["memory of children"] = sum(_resident(child) for child in children) / _MIB
        for quantity, metric in _METRICS.items():
            value = self.worker.metric(metric)
            if value is not None:
                found[quantity] = value
        self.samples.append((at_s, found))

    def trends(self, after_s: float) -> dict[str, Trend]:
        """Return the trend of each quantity since `after_s`, the end of the warm-up."""
        series = {
            quantity: [(at, found[quantity]) for at, found in self.samples if at >= after_s and quantity in found]
            for quantity in FLOORS
        }
        return {quantity: trend(points) for quantity, points in series.items() if len(points) >= 6}


def _resident(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return float(process.memory_info().rss)
    return 0.0
