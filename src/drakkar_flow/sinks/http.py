"""The HTTP sink: a request per payload to one address."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

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
_BODY_BYTES = 16 * 1024
"""The most that is read of an answer's body; the connection of a longer one is closed."""
_BODY_S = 0.5
"""Seconds that a body may take after the status; the connection of a slower one is closed."""
_EXCERPT_CHARS = 500
_CONTENT_TYPE = re.compile(r"[\x21-\x7e][\x20-\x7e]*")


class HttpSink:
    """Sends the payloads of a batch one after the other; several batches are under way at once.

    The status decides, as soon as it is there: of the body at most 16 KiB are read, for half a second,
    and nothing is unpacked or followed. 2xx is success. 408, 425, 429 and 5xx are tried again, after
    the pause that `Retry-After` asks for; every other status, redirects included, refuses the payload
    for good. When one request has to be tried again, so have those behind it: they are not sent, so
    that the order stays.

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
        headers = client.Headers({"accept-encoding": "identity"})
        headers.update(self._settings.headers)
        self._client = client.AsyncClient(
            headers=headers,
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

        request = self._request(client, payload)
        limit_s = self._settings.delivery_timeout_s
        try:
            async with asyncio.timeout(limit_s):  # the client's limits are for each wait, not for the whole request
                answer = await client.send(request, stream=True)
        except TimeoutError:
            raise SinkError(f"HTTP: the request was not answered within {limit_s:g} s") from None
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            raise SinkError(f"HTTP: {type(error).__name__}: {error}") from error
        body = await _beginning(answer)
        if answer.is_success:
            return
        text, detail = f"HTTP: the answer was {_named(answer.status_code)}", _excerpt(answer, body)
        if answer.status_code not in _TRY_AGAIN:
            raise SinkRejected(text, detail=detail)
        pause_s = _pause_s(answer.headers.get("retry-after", ""))
        raise SinkError(text, detail=detail) if pause_s is None else RetryAfter(pause_s, text, detail=detail)

    def _request(self, client: httpx.AsyncClient, payload: HttpPayload) -> httpx.Request:
        headers = {}
        try:
            body, content_type = self._body(payload.data)
            if payload.content_type is not None and not _CONTENT_TYPE.fullmatch(payload.content_type):
                raise ValueError("content_type is no header: use printable ASCII characters")
            if payload.content_type or (content_type and "content-type" not in client.headers):
                headers["content-type"] = payload.content_type or content_type
            url = self._settings.url.get_secret_value()
            return client.build_request(self._settings.method, url, headers=headers, **body)
        except Exception as error:  # a model's own serializers may raise anything
            raise SinkRejected(f"the payload has no body: {type(error).__name__}: {error}") from error

    def _body(self, data: Any) -> tuple[dict[str, Any], str]:
        """The body as an argument of the client, and its content type where the client sets none."""
        if self._settings.encoding == "json":
            raw = isinstance(data, bytes | bytearray | memoryview)
            return {"content": encode(data)}, "application/octet-stream" if raw else "application/json"
        fields = {name: encode(value) for name, value in to_row(data).items()}
        if self._settings.encoding == "form":
            return {"content": urlencode(fields).encode()}, "application/x-www-form-urlencoded"
        return {"files": {name: (None, value) for name, value in fields.items()}}, ""


async def _beginning(answer: httpx.Response) -> bytes:
    """The beginning of a body as it was sent, and the end of the answer: one read whole leaves its connection open."""
    import httpx

    body = bytearray()
    with suppress(httpx.HTTPError, OSError, ssl.SSLError, TimeoutError):  # the status has decided already
        parts = cast("AsyncGenerator[bytes]", answer.aiter_raw())
        async with asyncio.timeout(_BODY_S), aclosing(parts):
            async for part in parts:
                body += part
                if len(body) > _BODY_BYTES:
                    break
    with suppress(httpx.HTTPError, OSError, ssl.SSLError):
        await answer.aclose()
    return bytes(body[:_BODY_BYTES])


def _excerpt(answer: httpx.Response, body: bytes) -> str:
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding != "identity":
        return f"a body in {encoding}, which is not unpacked"
    return body.decode(errors="replace")[:_EXCERPT_CHARS]


def _named(status: int) -> str:
    """A status with its registered phrase; what the server calls it may be anything.

    >>> _named(404), _named(799)
    ('404 Not Found', '799')
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


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
