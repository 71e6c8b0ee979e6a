"""What metrics, logs at INFO and the flight recorder cost: each worker with and without them, in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

from benchmarks.bench import Watch, fill, make_topic, median, watch

RECORDS = 400_000
ROUNDS = 5
WORKERS = ("flow", "handler")
RECORDED = {"flow_style": 400_000, "handler_style": 400_000, "cat_style": 8_000, "persistent_cat": 100_000}
"""Workers that run with and without the recorder, and their records: programs are much slower than functions."""


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS)
    found: dict[str, object] = {"records": RECORDS}
    for name in WORKERS:
        rate, cpu = _pairs(f"{name}_style", source, RECORDS, {}, {"BENCH_UNOBSERVED": "1"})
        found[f"{name}_rate_ratio"], found[f"{name}_cpu_ratio"] = rate, cpu
    found |= {"rate_limit": 0.95, "cpu_limit": 1.05}
    for name, records in RECORDED.items():
        found |= recorder(name, records, source)
    return {**found, "recorder_rate_limit": 0.97}


def recorder(name: str, records: int, source: str) -> dict[str, object]:
    """Compare a worker with and without the recorder."""
    if records != RECORDS:
        source = make_topic("in")
        fill(source, records)
    with tempfile.TemporaryDirectory(prefix="bench-recorder-") as directory:
        rate, cpu = _pairs(name, source, records, {"BENCH_RECORDED": directory}, {"BENCH_RECORDED": ""})
    return {f"recorder_{name}_rate_ratio": rate, f"recorder_{name}_cpu_ratio": cpu}


def _pairs(
    name: str, source: str, records: int, with_it: Mapping[str, str], without: Mapping[str, str]
) -> tuple[float, float]:
    """Return the medians of rate and CPU with it, each divided by that without it."""
    rates: list[float] = []
    cpu: list[float] = []
    for number in range(ROUNDS):
        seen: dict[bool, Watch] = {}
        for on in (True, False) if number % 2 else (False, True):  # who comes first changes
            seen[on] = watch(f"benchmarks.workers.{name}", source, records, env=with_it if on else without)
        rates.append(seen[True].rate / seen[False].rate)
        cpu.append(seen[True].cpu_us / seen[False].cpu_us)
    return round(median(rates), 3), round(median(cpu), 3)
