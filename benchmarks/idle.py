"""What a flow costs while nothing comes: CPU with 4 and with 1,000 partitions assigned."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil
from confluent_kafka import Producer

from benchmarks.bench import Counter, bootstrap, make_topic, process
from benchmarks.latency import send

SETTLE_S = 5
SECONDS = 15


def idle_percent(
    partitions: int, module: str = "benchmarks.workers.handler_style", env: Mapping[str, str] | None = None
) -> float:
    """CPU of one core, in percent, after everything is assigned and one record went through."""
    source, output = make_topic("in", partitions), make_topic("out")
    producer = Producer({"bootstrap.servers": bootstrap()})
    send(producer, source, 0)
    producer.flush()
    counter = Counter(output)
    with process(module, source, output, 0, env=env) as child:
        deadline = time.monotonic() + 60
        while counter.count() == 0:
            if time.monotonic() > deadline:
                raise SystemExit("no result within 60 s")
            time.sleep(0.1)
        time.sleep(SETTLE_S)
        seen = psutil.Process(child.pid)
        before = sum(seen.cpu_times()[:2])
        time.sleep(SECONDS)
        spent = sum(seen.cpu_times()[:2]) - before
    counter.close()
    return spent / SECONDS * 100


def measure() -> dict[str, object]:
    return {
        "cpu_percent": round(idle_percent(4), 1),
        "limit_percent": 2,
        "cpu_percent_1000_partitions": round(idle_percent(1000), 1),
        "limit_percent_1000_partitions": 2,
    }
