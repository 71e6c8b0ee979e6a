"""What metrics, and logs at INFO, cost on the precomputed path: each worker with and without them, in turn."""

from __future__ import annotations

from benchmarks.bench import Watch, fill, make_topic, median, watch

RECORDS = 400_000
ROUNDS = 5
WORKERS = ("flow", "handler")


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS)
    found: dict[str, object] = {"records": RECORDS}
    for name in WORKERS:
        rates: list[float] = []
        cpu: list[float] = []
        for number in range(ROUNDS):
            turns = ("", "1") if number % 2 else ("1", "")  # who comes first changes
            seen: dict[str, Watch] = {
                off: watch(f"benchmarks.workers.{name}_style", source, RECORDS, env={"BENCH_UNOBSERVED": off})
                for off in turns
            }
            rates.append(seen[""].rate / seen["1"].rate)
            cpu.append(seen[""].cpu_us / seen["1"].cpu_us)
        found[f"{name}_rate_ratio"] = round(median(rates), 3)
        found[f"{name}_cpu_ratio"] = round(median(cpu), 3)
    return {**found, "rate_limit": 0.95, "cpu_limit": 1.05}
