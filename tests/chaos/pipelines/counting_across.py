"""Counts records by a key that is not their partition's, with work of random length behind the state."""

import asyncio
import os
import random

from drakkar_flow import KafkaSink, StreamFlow

KEYS = 37


def count(seen: int | None, number: int) -> tuple[int, int]:
    """One more record of the key."""
    return (seen or 0) + 1, number


async def work(number: int) -> str:
    """Records overtake each other here."""
    await asyncio.sleep(random.random() * float(os.environ.get("WORK_S", "0.1")))
    return str(number)


flow = (
    StreamFlow("counting_across")
    .decode(int)
    .stateful(count, key=lambda number: number % KEYS, state=int, across=True)
    .map_async(work, max_in_flight=100)
    .route(KafkaSink("out"))
)
