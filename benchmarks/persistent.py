"""A task per record for warm children, end to end on the real Kafka, against a bare loop in the same run."""

from __future__ import annotations

from benchmarks.bench import fill, make_topic, median, watch

RECORDS = 100_000
ROUNDS = 3
SLOTS = ("1", "2")


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS)
    bare: list[float] = []
    rates: dict[str, list[float]] = {"cat": [], "python": []}
    cpus: dict[str, list[float]] = {"cat": [], "python": []}
    for _ in range(ROUNDS):
        bare.append(watch("benchmarks.workers.bare", source, RECORDS).rate)
        for child in rates:
            best = max(
                (
                    watch(
                        "benchmarks.workers.persistent_cat",
                        source,
                        RECORDS,
                        env={"BENCH_CHILD": child, "BENCH_SLOTS": slots},
                    )
                    for slots in SLOTS
                ),
                key=lambda result: result.rate,
            )
            rates[child].append(best.rate)
            cpus[child].append(best.cpu_us)
    return {
        "records": RECORDS,
        "bare_per_s": round(median(bare)),
        "lines_per_s": round(median(rates["cat"])),
        "lines_ratio": round(median([ours / theirs for ours, theirs in zip(rates["cat"], bare, strict=True)]), 2),
        "lines_cpu_us": round(median(cpus["cat"])),
        "lines_limit": 35_000,
        "framed_python_per_s": round(median(rates["python"])),
        "framed_python_cpu_us": round(median(cpus["python"])),
        "framed_python_limit": 28_000,
    }
