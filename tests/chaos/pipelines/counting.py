"""Counts records by key, with asynchronous work of random length between the state and the commit."""

import asyncio
import random

from drakkar_flow import KafkaSink, StreamFlow


def count(seen: int | None, number: int, _record: object) -> tuple[int, int]:
    """One more record of the key."""
    return (seen or 0) + 1, number


async def work(number: int) -> str:
    """Records overtake each other here."""
    await asyncio.sleep(random.random() * 0.1)
    return str(number)


flow = (
    StreamFlow("counting")
    .decode(int)
    .stateful(count, key=lambda _number, record: record.key, state=int, with_record=True)
    .map_async(work, max_in_flight=100)
    .route(KafkaSink("out"))
)
