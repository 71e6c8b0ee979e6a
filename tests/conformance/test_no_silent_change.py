"""No sink changes a value silently: what its target can't hold is refused alone, bytes stay bytes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from conformance.test_kafka_sink import KafkaBench
from conformance.test_redis_sink import RedisBench
from conformance.test_sqlite_sink import SqliteBench
from drakkar_flow import FilePayload, KafkaPayload, RedisPayload, SqlitePayload
from drakkar_flow.errors import BatchFailed, SinkRejected
from drakkar_flow.kinds.sink import Sink
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.filesystem.settings import FilesystemSinkConfig
from drakkar_flow.sinks.filesystem.sink import FileSink
from drakkar_flow.testing.conformance import SinkBench
from support.kafka_io import Kafka, MakeTopic, read_all

pytestmark = pytest.mark.anyio

NAN, INF = float("nan"), float("inf")
RAW = b"\xff\x00\n\x1f\x8b"


class Price(BaseModel):
    """A model whose JSON form would hide a NaN."""

    price: float
    note: str | None = None


async def refusals(sink: Sink, *payloads: Any) -> dict[int, str]:
    """The reasons for the payloads that were refused, by their place; the others are written."""
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch([Delivery(payload, ()) for payload in payloads])
    causes = caught.value.failures
    assert all(isinstance(cause, SinkRejected) for cause in causes.values())
    return {index: str(cause) for index, cause in causes.items()}


@pytest.mark.integration
async def test_f11_kafka_takes_what_json_has_and_bytes(kafka: Kafka, make_topic: MakeTopic) -> None:
    """NaN is refused and not null; a header's name is not cut at a NUL."""
    bench = KafkaBench(kafka.bootstrap, make_topic(1))
    async with bench.connected() as sink:
        refused = await refusals(
            sink,
            KafkaPayload(data={"price": 0.1, "none": None}),
            KafkaPayload(data={"price": NAN}),
            KafkaPayload(data=Price(price=INF)),
            KafkaPayload(data=RAW, key=memoryview(b"\xfe"), headers=[("raw", b"\x00")]),  # type: ignore[arg-type]  # these work too
            KafkaPayload(data=bytearray(RAW)),
            KafkaPayload(data=b"x", headers=[("a\0b", b"1")]),
        )
    assert list(refused) == [1, 2, 5]
    assert "no JSON form" in refused[1]
    assert "NUL" in refused[5]
    found = read_all(kafka.bootstrap, bench.topic)
    assert [message.value() for message in found] == [b'{"price":0.1,"none":null}', RAW, RAW]
    assert (found[1].key(), found[1].headers()) == (b"\xfe", [("raw", b"\x00")])


@pytest.mark.integration
async def test_f11_redis_takes_what_json_has_and_bytes(redis: str) -> None:
    """Numbers as they are written, bytes as they are."""
    bench = RedisBench(redis)
    async with bench.connected() as sink:
        refused = await refusals(
            sink,
            RedisPayload(key="json", data={"price": 0.1, "big": 2**63}),
            RedisPayload(key="nan", data={"price": NAN}),
            RedisPayload(key="raw", data=RAW),
            RedisPayload(key="view", data=memoryview(RAW)),
            RedisPayload(op="hset", key="h", fields={"f": 0.1, "n": 2**70}),
        )
    found = {name: bench.other.get(bench.prefix + name) for name in ("json", "nan", "raw", "view")}
    fields = bench.other.hgetall(bench.prefix + "h")
    for key in bench.other.scan_iter(f"{bench.prefix}*"):
        bench.other.delete(key)
    bench.other.close()
    assert list(refused) == [1]
    assert found == {"json": b'{"price":0.1,"big":9223372036854775808}', "nan": None, "raw": RAW, "view": RAW}
    assert fields == {b"f": b"0.1", b"n": str(2**70).encode()}


async def test_f11_files_take_what_json_has(tmp_path: Path) -> None:
    """NaN is refused and not null."""
    sink = FileSink("out", FilesystemSinkConfig(base_path=str(tmp_path)))
    async with SinkBench.connected(SqliteBench(tmp_path), sink):
        data: list[Any] = [{"v": NAN}, {"v": None}, [1, [INF, None]], Price(price=NAN), Price(price=0.1)]
        refused = await refusals(sink, *(FilePayload(path="f", data=each) for each in data))
    assert list(refused) == [0, 2, 3]
    assert [json.loads(line) for line in (tmp_path / "f").read_text().splitlines()] == [
        {"v": None},
        {"price": 0.1, "note": None},
    ]


async def test_f11_sqlite_takes_what_it_can_hold(tmp_path: Path) -> None:
    """NaN, which it makes NULL of, and integers beyond 64 bits are refused by the names of their columns."""
    bench = SqliteBench(tmp_path)
    rows: list[dict[str, Any]] = [
        {"price": 0.1, "raw": RAW, "big": 1},
        {"price": NAN},
        {"price": INF},
        {"price": 2**63},
        {"price": [NAN]},
        {"big": 2**63 - 1},
        {"raw": memoryview(RAW)},
    ]
    async with bench.connected() as sink:
        refused = await refusals(sink, *(SqlitePayload(table="t", data=row) for row in rows))
    assert list(refused) == [1, 3, 4]
    assert "price: NaN" in refused[1]
    assert "price: the integer is not in -9223372036854775808 to 9223372036854775807" in refused[3]
    with closing(sqlite3.connect(tmp_path / "data/main.db")) as database:
        found = database.execute("SELECT price, raw, big FROM t ORDER BY rowid").fetchall()
    assert found == [(0.1, RAW, 1), (INF, None, None), (None, None, 2**63 - 1), (None, RAW, None)]
