"""One `cat` per record, end to end on the real Kafka, against a threaded C loop that only spawns."""

from __future__ import annotations

from benchmarks.bench import fill, make_topic, median, watch
from benchmarks.executor_spawn import c_loop_per_s

RECORDS = 8_000
ROUNDS = 3
SLOTS = (2, 4)


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS)
    limits, rates, ratios, cpus = [], [], [], []
    for _ in range(ROUNDS):
        limits.append(c_loop_per_s())
        best = max(
            (
                watch("benchmarks.workers.cat_style", source, RECORDS, env={"BENCH_SLOTS": str(slots)})
                for slots in SLOTS
            ),
            key=lambda result: result.rate,
        )
        rates.append(best.rate)
        cpus.append(best.cpu_us)
        ratios.append(best.rate / limits[-1])
    return {
        "records": RECORDS,
        "c_loop_per_s": round(median(limits)),
        "tasks_per_s": round(median(rates)),
        "cpu_us_per_task": round(median(cpus)),
        "ratio": round(median(ratios), 2),
        "limit": 0.7,
    }
