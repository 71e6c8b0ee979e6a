"""HTTP bodies: the status of an answer decides, whatever its body; bytes are sent as they are."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl

import pytest

from conformance.test_http_sink import HttpBench, deliveries
from drakkar_flow import HttpPayload
from drakkar_flow.errors import BatchFailed, SinkRejected
from drakkar_flow.model.codec import encode
from drakkar_flow.sinks.http.settings import HttpSinkConfig
from drakkar_flow.sinks.http.sink import HttpSink
from support.serving import serving

pytestmark = pytest.mark.anyio

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Odd:
    """A server whose answers are written by hand; `requests` are the first lines, `connections` their number."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client leaves."""
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                size = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
                await reader.readexactly(size)
                self.requests.append(lines[0])
                await self.answer(writer)
        writer.close()


@asynccontextmanager
async def service(answer: Answer) -> AsyncIterator[tuple[Odd, HttpSink]]:
    """A server and a sink that is connected to it; the connection that only proved its presence is not counted."""
    odd = Odd(answer)
    async with await asyncio.start_server(odd.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/in"
        sink = HttpSink("main", HttpSinkConfig(url=url, delivery_timeout_s=10))
        await sink.connect()
        odd.connections = -1 if not odd.connections else 0
        try:
            yield odd, sink
        finally:
            await sink.close()


def batch(count: int) -> list[Any]:
    """Payloads that tell their order."""
    return deliveries(*(HttpPayload(data={"n": n}) for n in range(count)))


def peak_mib() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def endless(writer: asyncio.StreamWriter) -> None:
    """200, and a body without end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    """200, and a body that comes a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


BOMB = gzip.compress(bytes(64 * 1024 * 1024))


async def bomb(writer: asyncio.StreamWriter) -> None:
    """200, and 64 KiB that unpack to 64 MiB."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB)
    await writer.drain()


async def broken(writer: asyncio.StreamWriter) -> None:
    """200, and a body that ends too early."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("answer", [endless, drip, bomb, broken], ids=lambda answer: answer.__name__)
async def test_f15_the_status_decides(answer: Answer) -> None:
    """Whatever follows it: each payload is posted once and done, and memory stays."""
    before = peak_mib()
    async with service(answer) as (odd, sink):
        await sink.write_batch(batch(3))
    assert odd.requests == ["post /in http/1.1"] * 3
    assert peak_mib() - before < 32


@pytest.mark.parametrize("answer", [endless, bomb], ids=lambda answer: answer.__name__)
async def test_g5_the_body_of_a_refusal_is_cut_and_not_unpacked(answer: Answer) -> None:
    """Its beginning is the detail of the error, never its text."""

    async def refuse(writer: asyncio.StreamWriter) -> None:
        real, writer_write = answer, writer.write
        writer.write = lambda data: writer_write(bytes(data).replace(b"200 OK", b"422 Private Words"))  # type: ignore[method-assign]  # answers as no server here does
        await real(writer)

    before = peak_mib()
    async with service(refuse) as (odd, sink):
        with pytest.raises(BatchFailed) as caught:
            await sink.write_batch(batch(1))
    cause = caught.value.failures[0]
    assert isinstance(cause, SinkRejected)
    assert str(cause) in (
        "HTTP: the answer was 422 Unprocessable Entity",
        "HTTP: the answer was 422 Unprocessable Content",
    )
    assert cause.detail == ("x" * 500 if answer is endless else "a body in gzip, which is not unpacked")
    assert len(odd.requests) == 1
    assert peak_mib() - before < 32


async def test_f15_a_connection_with_a_short_answer_is_used_again() -> None:
    """Bodies of a few KiB are read to their end."""

    async def short(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000)
        await writer.drain()

    async with service(short) as (odd, sink):
        await sink.write_batch(batch(5))
    assert len(odd.requests) == 5
    assert odd.connections <= 1


async def test_f15_a_cancelled_write_leaves_no_connection_open() -> None:
    """Though it was cancelled while the body came."""
    asked, closed = asyncio.Event(), asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        asked.set()
        try:
            await drip(writer)
        finally:
            closed.set()

    async with service(slow) as (_, sink):
        writing = asyncio.create_task(sink.write_batch(batch(1)))
        await asked.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await asyncio.wait_for(closed.wait(), 10)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_f15_a_redirect_is_a_refusal(status: int) -> None:
    """Nothing is requested a second time, by no method."""

    async def redirect(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()

    async with service(redirect) as (odd, sink):
        with pytest.raises(BatchFailed) as caught:
            await sink.write_batch(batch(1))
    assert isinstance(caught.value.failures[0], SinkRejected)
    assert odd.requests == ["post /in http/1.1"]


async def test_f15_interim_answers_are_no_answers() -> None:
    """100 and 103 are passed over, until the final status."""

    async def interim(writer: asyncio.StreamWriter) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with service(interim) as (odd, sink):
        await sink.write_batch(batch(2))
    assert len(odd.requests) == 2


@pytest.fixture
def bench() -> Iterator[HttpBench]:
    """A service that keeps what it gets."""
    made = HttpBench()
    with serving(made.service):
        yield made


@pytest.mark.parametrize(
    ("headers", "payload", "content_type"),
    [
        ({}, HttpPayload(data={"n": 1}), "application/json"),
        ({}, HttpPayload(data=b"\xff\x00"), "application/octet-stream"),
        ({}, HttpPayload(data=memoryview(b"\xff\x00")), "application/octet-stream"),
        ({}, HttpPayload(data=b"\x1f\x8b", content_type="application/gzip"), "application/gzip"),
        ({"Content-Type": "image/png"}, HttpPayload(data=b"\xff\x00"), "image/png"),
        ({"Content-Type": "text/csv"}, HttpPayload(data="a,b"), "text/csv"),
        ({"content-type": "image/png"}, HttpPayload(data=b"\xff", content_type="image/gif"), "image/gif"),
    ],
)
async def test_n5_bytes_are_the_body_and_the_content_type_says_so(
    bench: HttpBench, headers: dict[str, str], payload: HttpPayload, content_type: str
) -> None:
    """The payload's own type comes first, then the configured one."""
    async with bench.connected(bench.sink(headers=headers)) as sink:
        await sink.write_batch(deliveries(payload))
    ((_, sent, body),) = bench.service.requests
    assert sent["content-type"] == content_type
    assert body == encode(payload.data)


@pytest.mark.parametrize("encoding", ["form", "multipart"])
async def test_n5_fields_of_forms_may_be_bytes(bench: HttpBench, encoding: str) -> None:
    """They arrive as they are, and names can't break out of their place."""
    async with bench.connected(bench.sink(encoding=encoding)) as sink:
        await sink.write_batch(deliveries(HttpPayload(data={"raw": b"\xff\x00", 'a"\r\nX: 1&b=': "x&y=1"})))
    ((_, sent, body),) = bench.service.requests
    if encoding == "form":
        pairs = parse_qsl(body.decode(), encoding="latin-1")
        assert pairs == [("raw", "\xff\x00"), ('a"\r\nX: 1&b=', "x&y=1")]
    else:
        assert b'name="raw"\r\n\r\n\xff\x00\r\n' in body
        assert b"\r\nX: 1" not in body
    assert "x" not in sent


async def test_g7_a_content_type_of_a_message_adds_no_header(bench: HttpBench) -> None:
    """Line breaks refuse the payload alone."""
    bad = HttpPayload(data=b"1", content_type="text/plain\r\nx-admin: 1")
    async with bench.connected() as sink:
        with pytest.raises(BatchFailed, match="content_type") as caught:
            await sink.write_batch(deliveries(HttpPayload(data={"n": 0}), bad, HttpPayload(data={"n": 2})))
    assert list(caught.value.failures) == [1]
    assert [json.loads(body) for _, _, body in bench.service.requests] == [{"n": 0}, {"n": 2}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, None, float("-inf")]])
async def test_f11_what_json_does_not_have_is_refused(bench: HttpBench, value: Any) -> None:
    """NaN never becomes null."""
    async with bench.connected() as sink:
        with pytest.raises(BatchFailed, match="no JSON form") as caught:
            await sink.write_batch(deliveries(HttpPayload(data={"v": value}), HttpPayload(data={"v": None})))
    assert list(caught.value.failures) == [0]
