"""The records of the benches and what is computed of them: the same work for everybody."""

from __future__ import annotations

import os
import uuid
from typing import Any

from pydantic import BaseModel

BOOTSTRAP = os.environ.get("BENCH_KAFKA", "")
SOURCE = os.environ.get("BENCH_SOURCE", "")
OUTPUT = os.environ.get("BENCH_OUTPUT", "")
TOTAL = int(os.environ.get("BENCH_TOTAL", "0"))


class Reading(BaseModel):
    """A record, about 100 bytes of JSON."""

    id: int
    name: str
    score: float
    tags: list[str]
    sent_at: float


class Verdict(BaseModel):
    """A result."""

    id: int
    name: str
    total: float
    sent_at: float


class Counted(Verdict):
    """A result, with the number of records of its key up to this one."""

    count: int


def judge(reading: Reading) -> Verdict:
    """The work: next to nothing, so that what is measured is the way there and back."""
    return Verdict(id=reading.id, name=reading.name, total=reading.score * 2, sent_at=reading.sent_at)


def config(**sections: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a flow under test, metrics and logs on; `sections` are laid over it."""
    base: dict[str, dict[str, Any]] = {
        "kafka": {
            "brokers": BOOTSTRAP,
            "source_topic": SOURCE,
            "consumer_group": f"bench-{uuid.uuid4().hex}",
            "max_poll_records": 1000,
        },
        "sinks": {"kafka": {"results": {"topic": OUTPUT}}},
        "dlq": {"topic": OUTPUT},
        "metrics": {"host": "127.0.0.1", "port": 0},
    }
    if os.environ.get("BENCH_UNOBSERVED"):
        base |= {"metrics": {"enabled": False}, "logging": {"level": "CRITICAL"}}
    if directory := os.environ.get("BENCH_RECORDED"):
        base |= {"debug": {"enabled": True, "db_dir": directory}}
    return {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
