"""Keyed state and the recovery store: a count per key, with and without snapshots, and the restart with its keys."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.bench import Counter, fill, make_topic, median, process, watch

RECORDS = 400_000
KEYS = 100_000
ROUNDS = 3
MODULE = "benchmarks.workers.state_style"
_RARELY = "3600"  # seconds between two snapshots: none during a run
VARIANTS = {
    "plain": {"BENCH_INTERVAL": _RARELY},
    "state": {"BENCH_INTERVAL": _RARELY, "BENCH_STATE": "1"},
    "stored": {"BENCH_INTERVAL": "1", "BENCH_STATE": "1"},
}


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS, KEYS)
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    cpu: dict[str, list[float]] = {name: [] for name in VARIANTS}
    restarts: dict[str, list[float]] = {"plain": [], "stored": []}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(ROUNDS):
            for name, env in VARIANTS.items():
                store = str(Path(directory) / f"{name}-{number}-{source}")
                result = watch(MODULE, source, RECORDS, env={**env, "BENCH_STORE": store})
                rates[name].append(result.rate)
                cpu[name].append(result.cpu_us)
                if name in restarts:
                    restarts[name].append(_restart(source, {**env, "BENCH_STORE": store}))
    ratios = {
        "state_ratio": [one / other for one, other in zip(rates["state"], rates["plain"], strict=True)],
        "recovery_ratio": [one / other for one, other in zip(rates["stored"], rates["state"], strict=True)],
    }
    return {
        "records": RECORDS,
        "keys": KEYS,
        **{f"{name}_per_s": round(median(found)) for name, found in rates.items()},
        **{f"{name}_cpu_us": round(median(found), 1) for name, found in cpu.items()},
        "state_ratio": round(median(ratios["state_ratio"]), 2),
        "state_limit": 0.75,
        "recovery_ratio": round(median(ratios["recovery_ratio"]), 2),
        "recovery_limit": 0.88,
        "restart_s": round(median(restarts["stored"]), 2),
        "restart_without_state_s": round(median(restarts["plain"]), 2),
        "restart_limit_s": 0.5,
    }


def _restart(source: str, env: dict[str, str]) -> float:
    """Seconds from the start of a process with an existing store to its first new result."""
    output = make_topic("out")
    counter = Counter(output)
    fill(source, 1)
    started = time.perf_counter()
    with process(MODULE, source, output, 0, env=env):
        while not counter.count():
            time.sleep(0.005)
            if time.perf_counter() - started > 60:
                raise SystemExit(f"{MODULE}: no result within 60 s")
        took_s = time.perf_counter() - started
    counter.close()
    return took_s
