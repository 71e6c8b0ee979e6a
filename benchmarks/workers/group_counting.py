"""A count per key in group mode, its state in the state topic; without BENCH_STATE the same flow counts nothing."""

from __future__ import annotations

import os

from benchmarks.workers.model import Reading, config, judge
from drakkar_flow import KafkaSink, KafkaSource, StreamFlow, StreamingRunner

KEYS = int(os.environ.get("BENCH_KEYS", "100000"))


def count(seen: int | None, reading: Reading) -> tuple[int, Reading]:
    """One more record of the key."""
    return (seen or 0) + 1, reading


flow = StreamFlow("bench-group-state", source=KafkaSource()).decode(Reading)
if os.environ.get("BENCH_STATE"):
    flow = flow.stateful(count, key=lambda reading: reading.id % KEYS, state=int)
flow = flow.map(judge).route(KafkaSink("results"))

if __name__ == "__main__":
    settings = config()
    settings["kafka"]["consumer_group"] = os.environ["BENCH_GROUP"]
    if os.environ.get("BENCH_STATE"):
        settings["runtime"] = {"state": {"store": "kafka"}}
    raise SystemExit(StreamingRunner.from_dict(flow, settings).run())
