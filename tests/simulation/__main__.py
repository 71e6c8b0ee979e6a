"""Command of the simulation: `python -m simulation 0-1000 [--quiet] [--first]`.

The first seed that fails prints its timeline, unless it is to be quiet; `--first` ends there.
"""

from __future__ import annotations

import sys
import time

from simulation.scheduler import Violation
from simulation.simulation import Report, simulate, timeline_of


def main() -> int:
    """Simulate seeds; returns 1 if an invariant does not hold."""
    first, _, after = sys.argv[1].partition("-")
    seeds = range(int(first), int(after) if after else int(first) + 1)
    quiet = "--quiet" in sys.argv
    started = time.process_time()
    failed: list[int] = []
    reports: list[Report] = []
    for seed in seeds:
        try:
            reports.append(simulate(seed))
        except Violation as exc:
            failed.append(seed)
            print(f"seed {seed}: {exc}", flush=True)
            if "--first" in sys.argv:
                return 1
            if not quiet and len(failed) == 1:
                print(timeline_of(seed), flush=True)
    took_s = time.process_time() - started
    records, steps = sum(each.records for each in reports), sum(each.steps for each in reports)
    lives, delivered = sum(each.lives for each in reports), sum(each.delivered for each in reports)
    a_minute = 60 * len(seeds) / max(took_s, 0.1)
    print(f"{len(seeds)} seeds in {took_s:.0f} s of CPU ({a_minute:.0f} a minute), {len(failed)} failed")
    print(f"{records} records, {lives} processes, {delivered} deliveries, {steps} steps")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
