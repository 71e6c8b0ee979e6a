"""The HTTP sink: a request per payload to one address."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import anyio

from drakkar_flow.config.remote import HttpSinkConfig
from drakkar_flow.errors import (
    BatchFailed,
    Problem,
    RetryAfter,
    SinkError,
    SinkNotConnected,
    SinkRejected,
    StartupError,
)
from drakkar_flow.model.codec import encode, to_row
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.payload import HttpPayload
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.base import SinkSpec
from drakkar_flow.sinks.clients import require

if TYPE_CHECKING:
    import httpx

__all__ = ["SPEC", "HttpSink"]

_CONNECT_S = 10.0
_TRY_AGAIN = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses that pass: too busy, too early, or broken (RFC 9110, 6585, 8470)."""
_LONGEST_PAUSE_S = 300.0


class HttpSink:
    """Sends the payloads of a batch one after the other; several batches are under way at once.

    2xx is success. 408, 425, 429 and 5xx are tried again, after the pause that `Retry-After` asks
    for; every other status, redirects included, refuses the payload for good. When one request has
    to be tried again, so have those behind it: they are not sent, so that the order stays.

    Args:
        name: the instance's name under `sinks.http`.
        settings: the address, the method, headers and how bodies are written.
    """

    def __init__(self, name: str, settings: HttpSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def connect(self) -> None:
        """Prove that somebody listens at the address; nothing is requested.

        Raises:
            StartupError: nobody listens (exit code 1), or the client is not installed (2).
        """
        where = f"sinks.http.{self._name}"
        client = require("httpx", where, extra="http")
        if self._client is not None:
            return
        url = client.URL(self._settings.url.get_secret_value())
        try:
            with anyio.fail_after(_CONNECT_S):
                stream = await anyio.connect_tcp(url.host, url.port or (443 if url.scheme == "https" else 80))
                await stream.aclose()
        except (OSError, TimeoutError) as error:
            what = f"nobody can be reached at {url.host}: {type(error).__name__}: {error}"
            raise StartupError([Problem(f"{where}.url", what, "check the url, and that the service runs")]) from None
        headers = {"content-type": "application/json"} if self._settings.encoding == "json" else {}
        self._client = client.AsyncClient(
            headers=headers | self._settings.headers,
            timeout=client.Timeout(self._settings.timeout_seconds, connect=_CONNECT_S),
        )

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Send the batch, request by request.

        Raises:
            BatchFailed: some payloads were refused (SinkRejected) or have to be tried again.
            SinkNotConnected: before `connect`, or after `close`.
        """
        if self._client is None:
            raise SinkNotConnected(f"sinks.http.{self._name} is not connected; connect() comes first")
        failures: dict[int, Exception] = {}
        for index, delivery in enumerate(batch):
            try:
                await self._send(self._client, delivery.payload)
            except SinkRejected as error:
                failures[index] = error
            except SinkError as error:
                failures.update((left, error) for left in range(index, len(batch)))
                break
        if failures:
            raise BatchFailed(failures)

    async def close(self) -> None:
        """Close the connections; safe to call twice and before `connect`."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _send(self, client: httpx.AsyncClient, payload: HttpPayload) -> None:
        import httpx

        body = self._body(payload)
        limit_s = self._settings.delivery_timeout_s
        try:
            async with asyncio.timeout(limit_s):  # the client's limits are for each wait, not for the whole request
                answer = await client.request(self._settings.method, self._settings.url.get_secret_value(), **body)
        except TimeoutError:
            raise SinkError(f"HTTP: the request was not answered within {limit_s:g} s") from None
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            raise SinkError(f"HTTP: {type(error).__name__}: {error}") from error
        if answer.is_success:
            return
        text = f"HTTP: the answer was {answer.status_code} {answer.reason_phrase}: {answer.text[:200]!r}"
        if answer.status_code not in _TRY_AGAIN:
            raise SinkRejected(text)
        pause_s = _pause_s(answer.headers.get("retry-after", ""))
        raise RetryAfter(pause_s, text) if pause_s is not None else SinkError(text)

    def _body(self, payload: HttpPayload) -> dict[str, Any]:
        try:
            if self._settings.encoding == "json":
                return {"content": encode(payload.data)}
            fields = {name: _text(value) for name, value in to_row(payload.data).items()}
        except Exception as error:  # a model's own serializers may raise anything
            raise SinkRejected(f"the payload has no body: {type(error).__name__}: {error}") from error
        if self._settings.encoding == "form":
            return {"data": fields}
        return {"files": {name: (None, value) for name, value in fields.items()}}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _pause_s(retry_after: str) -> float | None:
    """Seconds until the time a `Retry-After` header names; None where it names none."""
    try:
        if retry_after.strip().isdecimal():
            pause_s = float(retry_after)
        else:
            pause_s = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(pause_s, 0.0), _LONGEST_PAUSE_S)


def _wrap(value: Any, _record: Record, name: str, _settings: HttpSinkConfig) -> HttpPayload:
    return HttpPayload(data=value, sink=name)


SPEC = SinkSpec(
    kind="http",
    payload_type=HttpPayload,
    settings_type=HttpSinkConfig,
    make=HttpSink,
    wrap=_wrap,
    max_in_flight=8,
    max_batch=20,
    times_itself=True,
)
"""What the library knows about HTTP sinks."""
