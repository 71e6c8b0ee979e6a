"""Drops repeated ids, counts by user, and reports every second how far the count has come: dedupe and timers."""

import asyncio
import random

import msgspec

from drakkar_flow import KafkaSink, StreamFlow


class Tally(msgspec.Struct, frozen=True):
    """Records of a user; `ends` has the totals at which a timer fired, `waits` is True while one is set."""

    total: int = 0
    ends: tuple[int, ...] = ()
    waits: bool = False


def fields(text: str) -> list[str]:
    """User and id."""
    return text.split()


def add(tally: Tally | None, event: list[str]) -> tuple[object, ...]:
    """One more record; the first after a report sets the timer."""
    tally = tally or Tally()
    now = Tally(tally.total + 1, tally.ends, waits=True)
    return (now, event[1]) if tally.waits else (now, event[1], 1.0)


def report(tally: Tally, user: str) -> tuple[Tally, str]:
    """The records since the last report."""
    start = tally.ends[-1] if tally.ends else 0
    return Tally(tally.total, (*tally.ends, tally.total)), f"{user} {start}..{tally.total}"


async def work(text: str) -> str:
    """Outputs overtake each other here."""
    await asyncio.sleep(random.random() * 0.1)
    return text


flow = (
    StreamFlow("flushing")
    .decode(str)
    .map(fields)
    .dedupe(lambda event: event[1], ttl_s=None)
    .stateful(add, key=lambda event: event[0], state=Tally, on_timer=report, name="tally")
    .map_async(work, max_in_flight=100)
    .route(KafkaSink("out"))
)
