"""Counts records by user in windows of 10 s of event time that overlap; results wait before their delivery."""

import asyncio
import random

from drakkar_flow import KafkaSink, Record, Sliding, StreamFlow, WindowResult


def fields(text: str) -> list[str]:
    """User and event time in ms."""
    return text.split()


def add(count: int | None, _event: list[str]) -> int:
    """One more record."""
    return (count or 0) + 1


def described(result: WindowResult[int], record: Record) -> str:
    """A key may occur in several partitions."""
    return f"{record.partition} {result.key!s} {result.start_s:g} {result.value}"


async def work(text: str) -> str:
    """Results overtake each other here."""
    await asyncio.sleep(random.random() * 0.1)
    return text


flow = (
    StreamFlow("minutes")
    .decode(str)
    .map(fields)
    .window(
        Sliding(10, every_s=5),
        key=lambda event: event[0],
        time=lambda event: int(event[1]) / 1000,
        add=add,
        state=int,
        allowed_lateness_s=5,
        late="fail",
        name="minutes",
    )
    .map(described, with_record=True)
    .map_async(work, max_in_flight=100)
    .route(KafkaSink("out"))
)
