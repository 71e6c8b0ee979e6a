"""Precomputed path on the real Kafka: flow and handler against a bare consume/produce loop, in turn."""

from __future__ import annotations

from benchmarks.bench import fill, make_topic, median, watch

RECORDS = 400_000
ROUNDS = 3
WORKERS = {"bare": "bare", "flow": "flow_style", "handler": "handler_style"}


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS)
    seen = {name: [] for name in WORKERS}  # type: dict[str, list[float]]
    cpu = {name: [] for name in WORKERS}  # type: dict[str, list[float]]
    ratios = {name: [] for name in WORKERS}  # type: dict[str, list[float]]
    for _ in range(ROUNDS):
        for name, module in WORKERS.items():
            result = watch(f"benchmarks.workers.{module}", source, RECORDS)
            seen[name].append(result.rate)
            cpu[name].append(result.cpu_us)
            ratios[name].append(result.rate / seen["bare"][-1])
    return {
        "records": RECORDS,
        **{f"{name}_per_s": round(median(rates)) for name, rates in seen.items()},
        **{f"{name}_cpu_us": round(median(values), 1) for name, values in cpu.items()},
        "flow_ratio": round(median(ratios["flow"]), 2),
        "flow_limit": 0.8,
        "handler_ratio": round(median(ratios["handler"]), 2),
        "handler_limit": 0.5,
    }
