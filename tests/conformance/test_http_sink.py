"""The HTTP sink keeps every sink's promises, with a real server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

import pytest

from drakkar_flow.errors import (
    BatchFailed,
    RetryAfter,
    SinkError,
    SinkMisconfigured,
    SinkNotConnected,
    SinkRejected,
    StartupError,
)
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.http.payload import HttpPayload
from drakkar_flow.sinks.http.settings import HttpSinkConfig
from drakkar_flow.sinks.http.sink import SPEC, HttpSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkFeatures, SinkSuite, deliver
from support.proxy import TcpProxy
from support.serving import serving

pytestmark = pytest.mark.anyio


class Service(ThreadingHTTPServer):
    """Keeps every request it answered with 2xx; `answers` are the statuses and headers of the next ones."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        if 200 <= status < 300:
            self.server.requests.append((self.command, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    do_PUT = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class HttpBench(SinkBench):
    """One service."""

    spec = SPEC
    features = SinkFeatures(atomic=False, many=500)  # a request each

    def __init__(self) -> None:
        self.service = Service()
        self.url = f"http://127.0.0.1:{self.service.server_address[1]}/in"

    def sink(self, **settings: Any) -> HttpSink:
        return HttpSink("main", HttpSinkConfig(url=self.url, **settings))

    def unreachable(self) -> HttpSink:
        return HttpSink("main", HttpSinkConfig(url="http://127.0.0.1:1/"))

    def payload(self, item: Any, key: bytes | str | None = None) -> HttpPayload:
        return HttpPayload(data=item)

    def read(self) -> list[Item]:
        found = [json.loads(body) for _, _, body in self.service.requests]
        return sorted(found, key=lambda item: item["n"] // 100 if len(found) == 800 else 0)


@pytest.fixture
def bench() -> Iterator[HttpBench]:
    """A service on a thread of its own."""
    made = HttpBench()
    with serving(made.service):
        yield made


class TestHttpSink(SinkSuite):
    """The suite."""


@pytest.fixture
async def sink(bench: HttpBench) -> AsyncIterator[HttpSink]:
    """A connected sink."""
    async with bench.connected() as made:
        assert isinstance(made, HttpSink)
        yield made


def deliveries(*payloads: HttpPayload) -> list[Delivery]:
    """Deliveries of payloads."""
    return [Delivery(payload, ()) for payload in payloads]


@contextmanager
def proxied(bench: HttpBench) -> Iterator[tuple[TcpProxy, Service]]:
    """A proxy before the bench's service, and a second service."""
    with serving(Service()) as other, TcpProxy(bench.service.server_address[1]) as proxy:
        yield proxy, other


def items(count: int) -> list[Item]:
    """Items that tell their order."""
    return [{"n": n} for n in range(count)]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, SinkRejected) for status in (400, 409, 413, 422, 301)),
        *((status, SinkMisconfigured) for status in (401, 403, 404, 405, 410, 415, 501)),
    ],
)
async def test_n1_a_refused_request_fails_alone(
    bench: HttpBench, sink: HttpSink, status: int, kind: type[SinkError]
) -> None:
    """No retry helps it; the others are sent. What every payload would get is told from what this one did."""
    bench.service.answers = [(204, {}), (status, {"location": "/elsewhere"})]
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(bench.batch(items(3)))
    assert list(caught.value.failures) == [1]
    assert type(caught.value.failures[1]) is kind
    assert str(status) in str(caught.value.failures[1])
    assert bench.read() == [{"n": 0}, {"n": 2}]


@pytest.mark.parametrize("status", [408, 421, 425, 429, 500, 502, 503])
async def test_g6_a_request_that_failed_for_now_is_tried_again_and_those_behind_it_are_sent(
    bench: HttpBench, sink: HttpSink, status: int
) -> None:
    """D-39: HTTP 500 is a delivery error. It is no reason to leave its neighbours unsent."""
    bench.service.answers = [(204, {}), (status, {})]
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(bench.batch(items(10)))
    assert list(caught.value.failures) == [1]
    assert not isinstance(caught.value.failures[1], SinkRejected | SinkMisconfigured)
    assert bench.read() == [{"n": n} for n in range(10) if n != 1]


async def test_a_service_that_asks_for_a_pause_gets_nothing_more_until_then(bench: HttpBench, sink: HttpSink) -> None:
    """The rest of the batch is left for the next attempt."""
    bench.service.answers = [(204, {}), (503, {"retry-after": "7"})]
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(bench.batch(items(4)))
    assert {type(cause) for cause in caught.value.failures.values()} == {RetryAfter}
    assert list(caught.value.failures) == [1, 2, 3]
    assert bench.read() == [{"n": 0}]


class Deaf(ThreadingHTTPServer):
    """Never answers the requests with `"n": 3`; `taken` are the others."""

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.ends = Event()
        super().__init__(("127.0.0.1", 0), _DeafHandler)


class _DeafHandler(_Handler):
    server: Deaf  # type: ignore[assignment]  # another server

    def do_POST(self) -> None:
        number = json.loads(self.rfile.read(int(self.headers["content-length"])))["n"]
        if number == 3:
            self.server.ends.wait(60)
            self.close_connection = True
            return
        self.server.taken.append(number)
        self.send_response(204)
        self.end_headers()


@pytest.mark.parametrize("when_open", ["dlq", "wait"])
async def test_g6_a_request_that_is_never_answered_does_not_hold_up_its_neighbours(when_open: str) -> None:
    """They are sent long before its time is over; it alone is a dead letter, with `wait` too."""
    payloads = [HttpPayload(data={"n": n}) for n in range(10)]
    with serving(Deaf()) as deaf:
        url = f"http://127.0.0.1:{deaf.server_address[1]}/"
        sink = HttpSink("main", HttpSinkConfig(url=url, timeout_seconds=120, delivery_timeout_s=120))
        await sink.connect()
        try:
            delivery = asyncio.create_task(deliver(sink, SPEC, payloads, when_open=when_open, attempts=1))
            async with asyncio.timeout(30):
                while len(deaf.taken) < 9:  # noqa: ASYNC110 - the service is on threads
                    await asyncio.sleep(0.01)
            deaf.ends.set()
            delivered = await delivery
        finally:
            deaf.ends.set()
            await sink.close()
    assert delivered.failed == [payloads[3]]
    assert deaf.taken == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_f7_a_service_that_is_not_the_right_one_any_more_is_left(bench: HttpBench) -> None:
    """After 503 and 421 the next attempt makes a new connection, which a changed address leads elsewhere."""
    with proxied(bench) as (proxy, other):
        async with bench.connected(HttpSink("main", HttpSinkConfig(url=f"http://127.0.0.1:{proxy.port}/in"))) as sink:
            await sink.write_batch(bench.batch(items(1)))
            proxy.target = other.server_address[1]
            bench.service.answers = [(503, {}), (421, {})] * 20
            delivered = await deliver(sink, SPEC, [HttpPayload(data={"n": n}) for n in range(5)], attempts=3)
    assert delivered.failures == []
    assert sorted(json.loads(body)["n"] for _, _, body in other.requests) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("999999999999", 300.0), ("soon", None), ("\u00b2", None)],
)
async def test_the_pause_a_service_asks_for_is_kept(
    bench: HttpBench, sink: HttpSink, header: str, pause_s: float | None
) -> None:
    """In seconds or as a date, five minutes at most; nonsense is no pause."""
    bench.service.answers = [(503, {"retry-after": header})]
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(bench.batch(items(1)))
    cause = caught.value.failures[0]
    assert (cause.delay_s if isinstance(cause, RetryAfter) else None) == pause_s


async def test_a_service_that_goes_away_fails_the_batch(bench: HttpBench) -> None:
    """The connection is refused: all of it may be tried again."""
    async with bench.connected(HttpSink("main", HttpSinkConfig(url=bench.url))) as sink:
        bench.service.shutdown()
        bench.service.server_close()
        with pytest.raises(BatchFailed) as caught:
            await sink.write_batch(bench.batch(items(2)))
    assert {type(cause) for cause in caught.value.failures.values()} == {SinkNotConnected}


async def test_a_request_as_a_whole_has_a_time_limit(bench: HttpBench) -> None:
    """A service that sends the head of its answer byte by byte is given up after delivery_timeout_s."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        settings = HttpSinkConfig(url=url, timeout_seconds=30, delivery_timeout_s=0.1)
        async with bench.connected(HttpSink("main", settings)) as sink:
            with pytest.raises(BatchFailed, match=r"was not answered within 0\.1 s") as caught:
                await sink.write_batch(bench.batch(items(2)))
    assert {type(cause) for cause in caught.value.failures.values()} == {SinkError}


async def test_headers_and_method_are_the_configured_ones(bench: HttpBench) -> None:
    """Bodies are JSON and say so."""
    async with bench.connected(bench.sink(method="PUT", headers={"X-Team": "a"})) as sink:
        await sink.write_batch(bench.batch([{"n": 1}]))
    ((method, headers, body),) = bench.service.requests
    assert (method, headers["x-team"], headers["content-type"]) == ("PUT", "a", "application/json")
    assert json.loads(body) == {"n": 1}


@pytest.mark.parametrize(
    ("encoding", "content_type", "expected"),
    [
        ("form", "application/x-www-form-urlencoded", b"a=x+y&b=%5B1%5D"),
        ("multipart", "multipart/form-data", b'name="a"\r\n\r\nx y\r\n'),
    ],
)
async def test_fields_become_forms(bench: HttpBench, encoding: str, content_type: str, expected: bytes) -> None:
    """What is no text inside a field is JSON."""
    async with bench.connected(bench.sink(encoding=encoding)) as sink:
        await sink.write_batch(bench.batch([{"a": "x y", "b": [1]}]))
    ((_, headers, body),) = bench.service.requests
    assert headers["content-type"].startswith(content_type)
    assert expected in body


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"headers": {"X-A": "two\nlines"}}, "headers.X-A"),
        ({"headers": {"X A": "b"}}, "headers.X A"),
        ({"headers": {"Authorization": "sch\u00fcssel-PW"}}, "headers.Authorization"),
        ({"method": "PO ST"}, "method"),
    ],
)
async def test_n14_what_can_never_be_sent_ends_the_start(
    bench: HttpBench, settings: dict[str, Any], where: str
) -> None:
    """Exit code 2, with the key and without the value."""
    with pytest.raises(StartupError) as caught:
        await bench.sink(**settings).connect()
    assert caught.value.exit_code == 2
    assert caught.value.problems[0].where == f"sinks.http.main.{where}"
    assert "PW" not in str(caught.value)


async def test_n14_https_where_http_is_spoken_ends_the_start(bench: HttpBench) -> None:
    """No waiting helps against the wrong scheme."""
    sink = HttpSink("main", HttpSinkConfig(url=bench.url.replace("http:", "https:")))
    with pytest.raises(StartupError, match="check that the url is https") as caught:
        await sink.connect()
    assert caught.value.exit_code == 2


class Leaving(dict[str, Any]):
    """A mapping whose own code ends the process."""

    def items(self) -> Any:
        """Leave."""
        raise SystemExit(3)


async def test_a_payload_that_ends_the_process_is_refused(bench: HttpBench) -> None:
    """Its neighbours are sent."""
    async with bench.connected(bench.sink(encoding="form")) as sink:
        with pytest.raises(BatchFailed) as caught:
            await sink.write_batch(bench.batch([{"n": 1}, Leaving(n=2), {"n": 3}]))
    assert [type(cause) for cause in caught.value.failures.values()] == [SinkRejected]
    assert len(bench.service.requests) == 2
