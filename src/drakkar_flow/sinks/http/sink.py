"""HTTP sink: one request per payload to one address."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import anyio

from drakkar_flow.config.urls import encoded
from drakkar_flow.errors import (
    BatchFailed,
    RetryAfter,
    SinkError,
    SinkNotConnected,
    SinkRejected,
)
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.codec import encode, to_row
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.clients import client_words, refused_url, require, unusable
from drakkar_flow.sinks.http.answers import failure_of_answer, is_stale
from drakkar_flow.sinks.http.payload import HttpPayload
from drakkar_flow.sinks.http.proof import prove
from drakkar_flow.sinks.http.settings import HttpSinkConfig

if TYPE_CHECKING:
    import httpx

__all__ = ["SPEC", "HttpSink"]

_CONNECT_S = 10.0
_PATIENCE = 0.1
"""Share of `delivery_timeout_s` without an answer after which one more request of the batch is sent."""
_LONGEST_PATIENCE_S = 3.0
_BODY_BYTES = 16 * 1024
"""Bytes of an answer's body that are read at most; the connection of a longer one is closed."""
_BODY_S = 0.5
"""Seconds that a body may take after the status; the connection of a slower one is closed."""
_EXCERPT_CHARS = 500
_KEPT_CONNECTIONS = 20
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"[\t\x20-\x7e]*")
_CONTENT_TYPE = re.compile(r"[\x21-\x7e][\x20-\x7e]*")


class HttpSink:
    """Sends the payloads of a batch one after the other; several batches are under way at once.

    The status decides as soon as it arrives (`sinks.http.answers`). At most 16 KiB of the body are read, for half a
    second. Bodies are not unpacked, redirects are not followed.

    Each request has its own result. Requests after a failed one are sent anyway. Requests after an unanswered one are
    sent beside it after three seconds. The rest of a batch waits for the next attempt only if the service is out of
    reach or asks for a pause with `Retry-After`.

    Args:
        name: the instance's name under `sinks.http`.
        settings: the address, the method, headers and how bodies are written.
    """

    def __init__(self, name: str, settings: HttpSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._url: httpx.URL | str = ""

    async def connect(self) -> None:
        """Check that the address accepts connections; no request is sent.

        Raises:
            StartupError: no service listens (exit code 1); TLS fails, the url, the method or a header can't be used, or
                the client is not installed (2).
        """
        where = f"sinks.http.{self._name}"
        client = require("httpx", where, extra="http")
        if self._client is not None:
            return
        address = encoded(self._settings.url.get_secret_value())
        try:
            url = client.URL(address)
        except Exception as error:  # httpx.InvalidURL, and the exceptions of its parts
            raise refused_url(f"{where}.url", error) from None
        made = self._make_client(client, where)
        try:
            await _reach(url, client)
        except BaseException as error:
            await made.aclose()
            if not isinstance(error, (OSError, TimeoutError)):
                raise
            what = f"{url.host} can't be used: {client_words(error, address)}"
            if isinstance(error, ssl.SSLError):
                remedy = "check that the url is https and that the certificate is trusted here"
                raise unusable(f"{where}.url", what, remedy, for_good=True) from None
            raise unusable(f"{where}.url", what, "check the url, and that the service runs", for_good=False) from None
        self._url = url
        self._client = made

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Send the batch, request by request.

        Raises:
            BatchFailed: some payloads were refused (SinkRejected, SinkMisconfigured) or must be tried again.
            SinkNotConnected: before `connect`, or after `close`.
        """
        if self._client is None:
            raise SinkNotConnected(f"sinks.http.{self._name} is not connected; connect() comes first")
        patience_s = min(_LONGEST_PATIENCE_S, self._settings.delivery_timeout_s * _PATIENCE)
        sending = _Sending(partial(self._send, self._client), batch, patience_s)
        await sending.run()
        if sending.failures:
            raise BatchFailed(dict(sorted(sending.failures.items())))

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
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise SinkNotConnected(f"HTTP: {self._words(error)}") from error
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            raise SinkError(f"HTTP: {self._words(error)}") from error
        stream = answer.extensions.get("network_stream")
        body = await _beginning(answer)
        if answer.is_success:
            return
        if stream is not None and is_stale(answer.status_code):
            await stream.aclose()
        raise failure_of_answer(answer.status_code, answer.headers.get("retry-after", ""), _excerpt(answer, body))

    def _words(self, error: Exception) -> str:
        return client_words(error, self._settings.url.get_secret_value())

    def _make_client(self, client: Any, where: str) -> httpx.AsyncClient:
        """Make the client with the headers of all requests.

        Raises:
            StartupError: the method or a header can't be sent (exit code 2).
        """
        headers = client.Headers({"accept-encoding": "identity"})
        for name, value in self._settings.headers.items():
            if not _TOKEN.fullmatch(name) or not _FIELD.fullmatch(value):
                what = "the header can't be sent: its name or its value holds characters that HTTP does not allow"
                raise unusable(f"{where}.headers.{name}", what, "use printable ASCII characters", for_good=True)
            headers[name] = value
        if not _TOKEN.fullmatch(self._settings.method):
            raise unusable(f"{where}.method", "the method is not a word", "use POST, PUT or PATCH", for_good=True)
        made: httpx.AsyncClient = client.AsyncClient(
            headers=headers,
            timeout=client.Timeout(self._settings.timeout_seconds, connect=_CONNECT_S, pool=None),
            limits=client.Limits(max_connections=None, max_keepalive_connections=_KEPT_CONNECTIONS),
        )
        return made

    def _request(self, client: httpx.AsyncClient, payload: HttpPayload) -> httpx.Request:
        headers = {}
        try:
            body, content_type = self._body(payload.data)
            if payload.content_type is not None and not _CONTENT_TYPE.fullmatch(payload.content_type):
                raise ValueError("content_type is not a valid header: use printable ASCII characters")
            if payload.content_type or (content_type and "content-type" not in client.headers):
                headers["content-type"] = payload.content_type or content_type
            return client.build_request(self._settings.method, self._url, headers=headers, **body)
        except Exception as error:  # a model's own serializers may raise anything
            raise SinkRejected(f"the payload has no body: {type(error).__name__}: {error}") from error

    def _body(self, data: Any) -> tuple[dict[str, Any], str]:
        """Return the body as an argument of the client, and its content type if the client sets none."""
        if self._settings.encoding == "json":
            raw = isinstance(data, (bytes, bytearray, memoryview))
            return {"content": encode(data)}, "application/octet-stream" if raw else "application/json"
        fields = {name: encode(value) for name, value in to_row(data).items()}
        if self._settings.encoding == "form":
            return {"content": urlencode(fields).encode()}, "application/x-www-form-urlencoded"
        return {"files": {name: (None, value) for name, value in fields.items()}}, ""


class _Sending:
    """Requests of one batch: one after the other, and beside each other while answers are missing."""

    def __init__(
        self, send: Callable[[HttpPayload], Awaitable[None]], batch: Sequence[Delivery], patience_s: float
    ) -> None:
        self._send = send
        self._patience_s = patience_s
        self._left = deque(enumerate(batch))
        self._answered = 0
        self.failures: dict[int, Exception] = {}

    async def run(self) -> None:
        """Send all requests; the errors of those that failed are in `failures`."""
        lines = {asyncio.ensure_future(self._line())}
        waiting = lines
        try:
            while waiting:
                before = self._answered
                done, waiting = await asyncio.wait(waiting, timeout=self._patience_s)
                for line in done:
                    line.result()
                if waiting and self._left and self._answered == before:
                    lines.add(line := asyncio.ensure_future(self._line()))
                    waiting = waiting | {line}
        finally:
            for line in waiting:
                line.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _line(self) -> None:
        while self._left:
            index, delivery = self._left.popleft()
            try:
                await self._send(delivery.payload)
            except (RetryAfter, SinkNotConnected) as error:
                self.failures[index] = error
                if isinstance(error, RetryAfter) or error.__cause__ is not None:  # no server answered
                    self._leave(error)
            except Exception as error:
                self.failures[index] = error
            except (SystemExit, KeyboardInterrupt) as error:  # of a payload's serializer; asyncio would end the loop
                what = f"{type(error).__name__} was raised while the payload was encoded"
                self.failures[index] = SinkRejected(what)
            self._answered += 1

    def _leave(self, error: SinkError) -> None:
        """Leave the rest of the batch for the next attempt: none of it can be written now."""
        self.failures.update((index, error) for index, _ in self._left)
        self._left.clear()


async def _reach(url: httpx.URL, client: Any) -> None:
    """Check that the address accepts connections, with TLS if the url is https; no request is sent."""
    with anyio.fail_after(_CONNECT_S):
        if url.scheme == "https":
            context = client.create_ssl_context()
            secure = await anyio.connect_tcp(
                url.host, url.port or 443, ssl_context=context, tls_hostname=url.host, tls_standard_compatible=False
            )
            await secure.aclose()
        else:
            plain = await anyio.connect_tcp(url.host, url.port or 80)
            await plain.aclose()


async def _beginning(answer: httpx.Response) -> bytes:
    """Return the beginning of a body as sent, and the end of the answer: one read whole leaves its connection open."""
    import httpx

    body = bytearray()
    try:
        parts = cast("AsyncGenerator[bytes]", answer.aiter_raw())
        async with asyncio.timeout(_BODY_S), aclosing(parts):
            async for part in parts:
                body += part
                if len(body) > _BODY_BYTES:
                    break
    except (httpx.HTTPError, OSError, ssl.SSLError, TimeoutError):
        pass  # the status has decided already
    finally:
        with suppress(httpx.HTTPError, OSError, ssl.SSLError):
            await answer.aclose()
    return bytes(body[:_BODY_BYTES])


def _excerpt(answer: httpx.Response, body: bytes) -> str:
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding != "identity":
        return f"a body in {encoding}, which is not unpacked"
    return body.decode(errors="replace")[:_EXCERPT_CHARS]


def _wrap(value: Any, _record: Record, name: str, _settings: HttpSinkConfig) -> HttpPayload:
    return HttpPayload(data=value, sink=name)


def _check(payload: HttpPayload, settings: Mapping[str, Any]) -> None:
    if settings.get("encoding", "json") == "json":
        encode(payload.data)


SPEC = SinkSpec(
    kind="http",
    payload_type=HttpPayload,
    settings_type=HttpSinkConfig,
    make=HttpSink,
    wrap=_wrap,
    max_in_flight=8,
    max_batch=20,
    times_itself=True,
    check_payload=_check,
    prove=prove,
    client="httpx",
    not_checked="the request that payloads make",
)
"""Spec of the HTTP sink."""
