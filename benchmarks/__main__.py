"""Run the benches that are named, or all of them; print each one's JSON, then a table.

make bench
make bench ARGS="precomputed latency"
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys

BENCHES = (
    *("precomputed", "oneshot", "persistent", "latency", "idle", "backlog", "ordering"),
    *(
        "state",
        "group_state",
        "exchange",
        "executor_spawn",
        "kafka_sink",
        "tracker",
        "cache",
        "peers",
        "quix",
        "observability",
    ),
)


def machine() -> dict[str, object]:
    """The facts a number means nothing without."""
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**3
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    names = sys.argv[1:] or BENCHES
    print(json.dumps({"machine": machine()}), flush=True)
    rows: list[tuple[str, str, object]] = []
    for name in names:
        result: dict[str, object] = importlib.import_module(f"benchmarks.{name}").measure()
        print(json.dumps({"bench": name, **result}), flush=True)
        rows += [(name, key, value) for key, value in result.items()]
    width = max(len(key) for _, key, _ in rows)
    print()
    for name, key, value in rows:
        print(f"{name:15} {key:{width}}  {value}")


if __name__ == "__main__":
    main()
