"""Order by key and partition: the Parallel Consumer's table, and what order and retries cost where nothing waits.

The table: 10,000 messages in one partition, 0-5 ms of asynchronous work each, 100 at once; measured from the beginning
of the first call to the end of the last. 100 at once need 0.25 s if nothing else takes time. A handler's hooks have no
bound of their own, so there more wait at once.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Counter, Watch, fill, make_topic, median, process, watch

RECORDS = 10_000
KEYS = 1_000
ROUNDS = 3
TABLE = {  # how the work is done, in which order
    "map_async_unordered": ("flow", "unordered"),
    "map_async_by_key": ("flow", "key"),
    "handler_unordered": ("handler", "unordered"),
    "handler_by_key": ("handler", "key"),
}
PRECOMPUTED_RECORDS = 400_000
RULES = {"retry_on": ["timeout", "signal"], "exit_codes": ["64-78"], "never_exit_codes": [65]}
PRECOMPUTED = {
    "plain": {},
    "by_key": {"ordering": "key"},
    "by_partition": {"ordering": "partition"},
    "by_key_with_retries": {"ordering": "key", "retry": RULES},
}


def measure() -> dict[str, object]:
    source = make_topic("in", partitions=1)
    fill(source, RECORDS, KEYS)
    table = {name: [_work(source, *how) for _ in range(ROUNDS)] for name, how in TABLE.items()}
    return {
        "records": RECORDS,
        "keys": KEYS,
        **{f"{name}_s": round(median(times), 3) for name, times in table.items()},
        "map_async_by_partition_of_1000_s": round(_work(_thousand(), "flow", "partition", 1000), 3),
        "limit_s": 0.6,
        "ideal_s": 0.25,
        **_cost(),
    }


def _thousand() -> str:
    topic = make_topic("in", partitions=1)
    fill(topic, 1000, KEYS)
    return topic


def _work(source: str, style: str, ordering: str, total: int = RECORDS) -> float:
    """Seconds of processing, all results written."""
    output = make_topic("out")
    counter = Counter(output)
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "times"
        env = {"BENCH_STYLE": style, "BENCH_ORDERING": ordering, "BENCH_REPORT": str(report)}
        with process("benchmarks.workers.waiting", source, output, total, env=env):
            while counter.count() < total:
                time.sleep(0.02)
        times = json.loads(report.read_text())
    counter.close()
    return float(times["ended_at"] - times["began_at"])


def _cost() -> dict[str, object]:
    """The precomputed handler with and without order and retry rules, in turn; ratios within each round."""
    source = make_topic("in")
    fill(source, PRECOMPUTED_RECORDS, KEYS)
    seen: dict[str, list[Watch]] = {name: [] for name in PRECOMPUTED}
    for _ in range(ROUNDS):
        for name, executor in PRECOMPUTED.items():
            env = {"BENCH_EXECUTOR": json.dumps(executor)}
            seen[name].append(watch("benchmarks.workers.handler_style", source, PRECOMPUTED_RECORDS, env=env))
    plain = seen.pop("plain")
    found: dict[str, object] = {"precomputed_plain_per_s": round(median([one.rate for one in plain]))}
    for name, watches in seen.items():
        pairs = list(zip(watches, plain, strict=True))
        found[f"precomputed_{name}_ratio"] = round(median([one.rate / other.rate for one, other in pairs]), 2)
        found[f"precomputed_{name}_cpu_ratio"] = round(median([one.cpu_us / other.cpu_us for one, other in pairs]), 2)
    return {**found, "precomputed_limit": 0.9}
