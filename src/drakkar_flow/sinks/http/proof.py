"""Proof of the target: check, without a write, what a connection alone does not show.

The proof opens and closes a connection after the sink itself has connected.
"""

from __future__ import annotations

from drakkar_flow.errors import Problem
from drakkar_flow.sinks.http.settings import HttpSinkConfig

__all__ = ["prove"]

_ANSWER_S = 10.0
_REFUSED = frozenset({401, 403})


async def prove(where: str, settings: HttpSinkConfig) -> list[Problem]:
    """Check that the service speaks HTTP and accepts us, with OPTIONS, which changes nothing."""
    import httpx

    url = settings.url.get_secret_value()
    try:
        async with httpx.AsyncClient(timeout=min(_ANSWER_S, settings.timeout_seconds)) as client:
            status = (await client.options(url, headers=settings.headers)).status_code
    except httpx.HTTPError as error:
        what = f"the service does not speak HTTP as expected: {type(error).__name__}: {error}"
        return [Problem(f"{where}.url", what, "check scheme, port and certificate")]
    if status in _REFUSED:
        return [Problem(f"{where}.headers", f"the service refuses this client: {status}", "check the credentials")]
    return []
