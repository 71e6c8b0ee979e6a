"""Memory while a backlog of a million records is worked off."""

from __future__ import annotations

from benchmarks.bench import fill, make_topic, watch

RECORDS = 1_000_000


def measure() -> dict[str, object]:
    source = make_topic("in")
    fill(source, RECORDS)
    result = watch("benchmarks.workers.handler_style", source, RECORDS)
    return {
        "records": RECORDS,
        "per_s": round(result.rate),
        "peak_mib": round(result.peak_mib),
        "limit_mib": 143,
    }
