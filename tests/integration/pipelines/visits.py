"""Numbers the visits of each user, on a step that waits behind the state; the output is user and number."""

import asyncio

from drakkar_flow import KafkaSink, StreamFlow


def count(number: int | None, user: str) -> tuple[int, str]:
    """One more visit."""
    number = (number or 0) + 1
    return number, f"{user} {number}"


async def wait(text: str) -> str:
    """Records of one user finish in another order than they come."""
    await asyncio.sleep(hash(text) % 5 / 1000)
    return text


flow = StreamFlow("visits").decode(str).stateful(count, key=str, state=int, ttl_s=3600).map_async(wait)
flow = flow.route(KafkaSink("out"))
