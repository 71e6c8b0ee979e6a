"""A flow in fixed mode: state of a bounded number of keys with a time to live, calls that wait, dead letters."""

import asyncio

from drakkar_flow import KafkaSink, StreamFlow

KEYS = 500


def count(seen: int | None, number: int) -> tuple[int, int]:
    """One more record of the key."""
    return (seen or 0) + 1, number


async def work(number: int) -> str:
    """Records overtake each other; some fail."""
    await asyncio.sleep(number % 7 / 1000)
    if number % 1000 == 999:
        raise ValueError("it always fails")
    return str(number)


flow = (
    StreamFlow("stateful")
    .decode(int)
    .stateful(count, key=lambda number: number % KEYS, state=int, ttl_s=3600)
    .map_async(work, max_in_flight=100)
    .route(KafkaSink("out"))
)
