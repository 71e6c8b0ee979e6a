"""Counts the visits of each user in windows of 10 s of event time; results finish in another order than they come."""

import asyncio

from drakkar_flow import KafkaSink, StreamFlow, Tumbling, WindowResult


def visit(value: bytes) -> tuple[str, float]:
    """User and time."""
    user, at = value.decode().split()
    return user, float(at)


def count(visits: int | None, _visit: tuple[str, float]) -> int:
    """One more visit."""
    return (visits or 0) + 1


async def described(result: WindowResult[int]) -> str:
    """Wait a little, and describe the result."""
    await asyncio.sleep(hash(result.key) % 5 / 1000)
    return f"{result.key!s} {result.start_s:g} {result.value}"


flow = (
    StreamFlow("windows")
    .decode(visit)
    .window(
        Tumbling(10),
        key=lambda visit: visit[0],
        time=lambda visit: visit[1],
        add=count,
        state=int,
        allowed_lateness_s=5,
        late="fail",
    )
    .map_async(described)
    .route(KafkaSink("out"))
)
