"""A count per key with a recovery store: each result has the number of its record among those of its key."""

from __future__ import annotations

import os

from benchmarks.workers.model import Counted, Reading, config, judge
from drakkar_flow import KafkaSink, KafkaSource, StreamFlow, StreamingRunner

KEYS = int(os.environ.get("BENCH_KEYS", "1"))


def key_of(reading: Reading) -> int:
    """Key of the state: the message's."""
    return reading.id % KEYS


def count(seen: int | None, reading: Reading) -> tuple[int, Counted]:
    """One more record of the key."""
    number = (seen or 0) + 1
    return number, Counted(**judge(reading).__dict__, count=number)


flow = (
    StreamFlow("counting", source=KafkaSource())
    .decode(Reading)
    .stateful(count, key=key_of, state=int)
    .route(KafkaSink("results"))
)

if __name__ == "__main__":
    settings = config()
    settings["kafka"]["consumer_group"] = os.environ["BENCH_GROUP"]
    settings["runtime"] = {"recovery": {"dir": os.environ["BENCH_STORE"], "snapshot_interval_s": 1}}
    raise SystemExit(StreamingRunner.from_dict(flow, settings).run())
