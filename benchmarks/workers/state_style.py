"""The flow with a count per key between decode and map; BENCH_STATE says what is stored."""

from __future__ import annotations

import os

from benchmarks.workers.model import Reading, config, judge
from drakkar_flow import KafkaSink, KafkaSource, StreamFlow, StreamingRunner

KEYS = 100_000
STORE = os.environ.get("BENCH_STORE", "")


def count(seen: int | None, reading: Reading) -> tuple[int, Reading]:
    """One more record of the key."""
    return (seen or 0) + 1, reading


flow = StreamFlow("bench-state", source=KafkaSource()).decode(Reading)
if os.environ.get("BENCH_STATE"):
    flow = flow.stateful(count, key=lambda reading: reading.id % KEYS, state=int)
flow = flow.map(judge).route(KafkaSink("results"))

if __name__ == "__main__":
    settings = config()
    settings["kafka"]["consumer_group"] = f"bench-{STORE.rpartition('/')[2]}"  # the store belongs to its group
    interval_s = float(os.environ.get("BENCH_INTERVAL", "1"))
    settings["runtime"] = {"recovery": {"dir": STORE, "snapshot_interval_s": interval_s}}
    raise SystemExit(StreamingRunner.from_dict(flow, settings).run())
