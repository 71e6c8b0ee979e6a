"""Proof of the target: check, without a write, what a connection alone does not show.

The proof opens and closes a connection after the sink itself has connected.
"""

from __future__ import annotations

import uuid

from drakkar_flow.errors import Problem
from drakkar_flow.sinks.redis.settings import RedisSinkConfig

__all__ = ["prove"]

_ANSWER_S = 10.0


async def prove(where: str, settings: RedisSinkConfig) -> list[Problem]:
    """Check that `SET` below the prefix is allowed, with XX on a key that does not exist, so nothing is stored."""
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    url = settings.url.get_secret_value()
    async with Redis.from_url(url, socket_connect_timeout=_ANSWER_S, socket_timeout=_ANSWER_S) as client:
        try:
            await client.set(f"{settings.key_prefix}drakkar-flow-check-{uuid.uuid4()}", "", xx=True)
        except ResponseError as error:
            remedy = "connect to the primary, or allow this user to write"
            return [Problem(f"{where}.url", f"Redis refuses to write: {type(error).__name__}: {error}", remedy)]
    return []
