"""A count per key in one process of a cluster, or alone; BENCH_ACROSS sends records to the process of their key."""

from __future__ import annotations

import os

from benchmarks.workers.model import Reading, config, judge
from drakkar_flow import KafkaSink, KafkaSource, StreamFlow, StreamingRunner

KEYS = 100_000
STORE = os.environ.get("BENCH_STORE", "")
ADDRESSES = os.environ.get("BENCH_ADDRESSES", "")


def count(seen: int | None, reading: Reading) -> tuple[int, Reading]:
    """One more record of the key."""
    return (seen or 0) + 1, reading


flow = StreamFlow("bench-exchange", source=KafkaSource()).decode(Reading)
across = bool(os.environ.get("BENCH_ACROSS"))
flow = flow.stateful(count, key=lambda reading: reading.id % KEYS, state=int, across=across)
flow = flow.map(judge).route(KafkaSink("results"))

if __name__ == "__main__":
    settings = config()
    settings["kafka"]["consumer_group"] = f"bench-{STORE.rpartition('/')[2]}"  # the store belongs to its group
    settings["runtime"] = {"recovery": {"dir": STORE}}
    if ADDRESSES:
        place = int(os.environ.get("BENCH_PROCESS", "0"))
        settings["runtime"]["cluster"] = {"addresses": ADDRESSES.split(";"), "process_id": place}
    raise SystemExit(StreamingRunner.from_dict(flow, settings).run())
