"""py-drakkar on the same work, in the same run as ours. Optional: it needs Python 3.13 and its own environment.

python3.13 -m venv peer && peer/bin/pip install "py-drakkar==2.4.0"
BENCH_PEER_PYTHON=peer/bin/python make bench ARGS=peers
"""

from __future__ import annotations

import os

from benchmarks.bench import fill, make_topic, watch

PRECOMPUTED_RECORDS = (2_000, 200_000)  # the peer's and ours: each long enough to be a rate
CAT_RECORDS = (1_000, 5_000)
SLOTS = "16"


def filled(count: int) -> str:
    """A topic with `count` records."""
    topic = make_topic("in")
    fill(topic, count)
    return topic


def measure() -> dict[str, object]:
    python = os.environ.get("BENCH_PEER_PYTHON")
    if not python:
        return {"skipped": "set BENCH_PEER_PYTHON to a Python 3.13 that has py-drakkar"}
    result: dict[str, object] = {"peer": "py-drakkar 2.4.0"}
    for name, ours, records in (
        ("precomputed", "handler_style", PRECOMPUTED_RECORDS),
        ("cat", "cat_style", CAT_RECORDS),
    ):
        extra = {"BENCH_SLOTS": SLOTS, "BENCH_KIND": name}
        theirs, our_own = (filled(count) for count in records)
        peer = watch("benchmarks.workers.py_drakkar", theirs, records[0], python=python, env=extra)
        mine = watch(f"benchmarks.workers.{ours}", our_own, records[1], env=extra)
        result |= {
            f"{name}_peer_per_s": round(peer.rate),
            f"{name}_ours_per_s": round(mine.rate),
            f"{name}_ratio": round(mine.rate / peer.rate, 1),
            f"{name}_peer_first_s": round(peer.first_s, 1),
            f"{name}_ours_first_s": round(mine.first_s, 1),
        }
    return result
