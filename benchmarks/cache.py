"""What calls of the cache cost, and how fast its file is written and read; prints JSON."""

from __future__ import annotations

import asyncio
import tempfile
import time
import timeit
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.cache.service import CacheService
from drakkar_flow.cache.settings import CacheSettings, PeerSettings
from drakkar_flow.model.cache import CacheScope
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.cache import CachePeerSynced

CALLS = 200_000
ENTRIES = 100_000


def call_us(statement: str, cache: WorkerCache) -> float:
    """The best of five rounds, in microseconds."""
    best = min(timeit.repeat(statement, globals={"cache": cache}, number=CALLS, repeat=5))
    return round(best / CALLS * 1e6, 3)


def calls() -> dict[str, object]:
    """Cost of a call in memory."""
    cache = WorkerCache("w", Bus())
    small: Any = {"user": "Ada", "visits": 7}
    cache.set("text", "value", ttl=3600)
    cache.set("object", small)
    return {
        "peek_text_us": call_us("cache.peek('text')", cache),
        "peek_object_us": call_us("cache.peek('object')", cache),
        "peek_missing_us": call_us("cache.peek('missing')", cache),
        "contains_us": call_us("'object' in cache", cache),
        "set_object_us": call_us("cache.set('object', {'user': 'Ada', 'visits': 7}, ttl=60)", cache),
    }


async def read_all(cache: WorkerCache) -> None:
    """Read every entry from the file, 1,000 at a time."""
    for start in range(0, ENTRIES, 1000):
        found = await asyncio.gather(*(cache.get(f"key:{number}") for number in range(start, start + 1000)))
        assert None not in found


def file() -> dict[str, object]:
    """Seconds until 100,000 entries are on disk, and until a new process has read them."""
    with tempfile.TemporaryDirectory() as directory:
        settings = CacheSettings(worker="w", directory=Path(directory) / "cache", max_entries=1000)
        service = CacheService(settings, Bus())
        service.start()
        started = time.perf_counter()
        for number in range(ENTRIES):
            service.cache.set(f"key:{number}", {"user": "Ada", "visits": number})
        service.close(60)
        written_s = time.perf_counter() - started
        service = CacheService(settings, Bus())
        service.start()
        started = time.perf_counter()
        asyncio.run(read_all(service.cache))
        read_s = time.perf_counter() - started
        service.close(60)
    return {"written_100000_s": round(written_s, 2), "read_100000_s": round(read_s, 2)}


def synced() -> dict[str, object]:
    """Seconds from the first of 100,000 writes of one worker until another one has all of them on disk."""
    with tempfile.TemporaryDirectory() as directory:
        bus, taken, all_taken = Bus(), [0], Event()

        def count(event: CachePeerSynced) -> None:
            taken[0] += event.upserted
            if taken[0] >= ENTRIES:
                all_taken.set()

        bus.listen(CachePeerSynced, count)
        peers = PeerSettings(interval_s=0.5, round_s=0.45)
        settings = CacheSettings(worker="a", directory=Path(directory) / "cache", flush_s=0.5, peers=peers)
        one, other = CacheService(settings, Bus()), CacheService(replace(settings, worker="b"), bus)
        one.start()
        other.start()
        started = time.perf_counter()
        for number in range(ENTRIES):
            one.cache.set(f"key:{number}", {"user": "Ada", "visits": number}, scope=CacheScope.GLOBAL)
        all_taken.wait(120)
        took_s = time.perf_counter() - started
        assert asyncio.run(other.cache.get(f"key:{ENTRIES - 1}")) == {"user": "Ada", "visits": ENTRIES - 1}
        one.close(60)
        other.close(60)
    return {"synced_100000_s": round(took_s, 2)}


def measure() -> dict[str, object]:
    """Measure all."""
    return {**calls(), **file(), **synced()}
