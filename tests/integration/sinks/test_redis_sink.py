"""The Redis sink on servers of its own: fail-over, rights, a full memory; and the values it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis as client

from drakkar_flow.errors import SinkNotConnected, StartupError
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.redis.payload import RedisPayload
from drakkar_flow.sinks.redis.settings import RedisSinkConfig
from drakkar_flow.sinks.redis.sink import SPEC, RedisSink
from drakkar_flow.testing.conformance import deliver
from scripts.servers.redis import Redis
from support.names import unique
from support.proxy import TcpProxy

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Redis, Redis]]:
    """Two empty servers of the test's own."""
    pair = Redis(tmp_path / "one"), Redis(tmp_path / "two")
    try:
        for server in pair:
            server.start()
        yield pair
    finally:
        for server in pair:
            server.stop()


@pytest.fixture
def prefix() -> str:
    """What the test's keys begin with."""
    return unique("test") + ":"


@pytest.fixture
async def sink(redis: str, prefix: str) -> AsyncIterator[RedisSink]:
    """A sink for the shared server, under a prefix of its own."""
    made = RedisSink("main", RedisSinkConfig(url=redis, key_prefix=prefix))
    await made.connect()
    yield made
    await made.close()


def batch(*payloads: RedisPayload) -> list[Delivery]:
    """Deliveries of payloads."""
    return [Delivery(payload, ()) for payload in payloads]


def texts(count: int) -> list[RedisPayload]:
    """Payloads that set `k0`, `k1`, ..."""
    return [RedisPayload(key=f"k{number}", data=str(number)) for number in range(count)]


class Colour(Enum):
    """An enumeration that is no text."""

    RED = "red"


NATURAL: list[tuple[Any, bytes]] = [
    (True, b"true"),
    (False, b"false"),
    (1, b"1"),
    (0.1, b"0.1"),
    ("text", b"text"),
    (b"\xff\x00", b"\xff\x00"),
    (bytearray(b"ab"), b"ab"),
    (UUID(int=5), b"00000000-0000-0000-0000-000000000005"),
    (Decimal("1.10"), b"1.10"),
    (datetime(2026, 1, 2, tzinfo=UTC), b"2026-01-02T00:00:00Z"),
    (date(2026, 1, 2), b"2026-01-02"),
    (Colour.RED, b"red"),
    (["a", 1], b'["a",1]'),
    ({"a": None}, b'{"a":null}'),
    (Path("/tmp/x"), b"/tmp/x"),
    (10**30, b"1" + b"0" * 30),
]


@pytest.mark.parametrize(("value", "stored"), NATURAL, ids=str)
async def test_f6_natural_values_are_stored(
    sink: RedisSink, redis: str, prefix: str, value: Any, stored: bytes
) -> None:
    """As a field, a member, an argument, a list's item and a value; keys may be bytes, numbers and UUIDs."""
    await sink.write_batch(
        batch(
            RedisPayload(op="hset", key=b"h\xff", fields={"f": value}),  # type: ignore[arg-type]  # wrong on purpose
            RedisPayload(op="sadd", key=UUID(int=1), members=[value]),  # type: ignore[arg-type]  # wrong on purpose
            RedisPayload(op="push", key=7, data=value),  # type: ignore[arg-type]  # wrong on purpose
            RedisPayload(key="k", data=value),
        )
    )
    start = prefix.encode()
    with client.Redis.from_url(redis) as other:
        assert other.hget(start + b"h\xff", "f") == stored
        assert other.smembers(start + b"00000000-0000-0000-0000-000000000001") == {stored}
        assert other.lindex(start + b"7", 0) == stored
        assert other.get(start + b"k") == stored
        for key in (b"h\xff", b"00000000-0000-0000-0000-000000000001", b"7", b"k"):
            other.delete(start + key)


async def test_f6_none_is_refused_with_its_field(sink: RedisSink) -> None:
    """Redis has no null."""
    delivered = await deliver(sink, SPEC, [RedisPayload(op="hset", key="h", fields={"ok": None})])  # type: ignore[dict-item]  # wrong on purpose
    (failure,) = delivered.failures
    assert failure.error.startswith("fields['ok'] is None, which Redis can't store")


async def test_f7_after_a_fail_over_behind_one_name_the_sink_writes_to_the_new_server(
    servers: tuple[Redis, Redis],
) -> None:
    """The old connection answers READONLY; new ones reach the server that takes writes."""
    one, two = servers
    with TcpProxy(one.port) as proxy:
        made = RedisSink("main", RedisSinkConfig(url=f"redis://127.0.0.1:{proxy.port}/0"))
        await made.connect()
        try:
            await made.write_batch(batch(*texts(1)))
            with client.Redis.from_url(one.address) as old:
                old.replicaof("127.0.0.1", str(two.port))
            proxy.target = two.port
            delivered = await deliver(made, SPEC, texts(5))
        finally:
            await made.close()
    assert delivered.failures == []
    with client.Redis.from_url(two.address) as new:
        assert new.get("k4") == b"4"


async def test_f7_a_script_that_is_refused_by_a_replica_is_tried_at_the_new_server(
    servers: tuple[Redis, Redis],
) -> None:
    """READONLY among the answers of a batch, and scripts that the new server does not know."""
    one, two = servers
    scripts = {"put": "return redis.call('SET', KEYS[1], ARGV[1])"}
    with TcpProxy(one.port) as proxy:
        made = RedisSink("main", RedisSinkConfig(url=f"redis://127.0.0.1:{proxy.port}/0", scripts=scripts))
        await made.connect()
        try:
            with client.Redis.from_url(one.address) as old:
                old.replicaof("127.0.0.1", str(two.port))
            proxy.target = two.port
            put = [RedisPayload(op="script", script="put", keys=[f"k{n}"], args=[n]) for n in range(3)]
            delivered = await deliver(made, SPEC, put, attempts=5)
        finally:
            await made.close()
    assert delivered.failures == []
    with client.Redis.from_url(two.address) as new:
        assert new.get("k2") == b"2"


async def test_n1_missing_rights_are_told_from_a_bad_value(servers: tuple[Redis, Redis]) -> None:
    """NOPERM for one key: its neighbours are written, and its class says that no retry and no other value helps."""
    server, _ = servers
    with client.Redis.from_url(server.address) as admin:
        admin.execute_command("ACL", "SETUSER", "joe", "on", ">pw", "~k*", "+@all")
    made = RedisSink("main", RedisSinkConfig(url=f"redis://joe:pw@127.0.0.1:{server.port}/0"))
    await made.connect()
    try:
        payloads = [*texts(3), RedisPayload(key="other", data="x"), *texts(5)[3:]]
        delivered = await deliver(made, SPEC, payloads)
    finally:
        await made.close()
    assert delivered.failed == [payloads[3]]
    assert delivered.failures[0].exception_class == "drakkar_flow.errors.SinkMisconfigured"
    assert delivered.acknowledged == [0, 1, 2, 4, 5]


async def test_g6_a_server_without_memory_holds_the_batch_and_loses_nothing(servers: tuple[Redis, Redis]) -> None:
    """OOM is the server's state, told before EXEC: nothing of the batch is done, and all of it is tried again."""
    server, _ = servers
    made = RedisSink("main", RedisSinkConfig(url=server.address))
    await made.connect()
    try:
        with client.Redis.from_url(server.address) as admin:
            admin.config_set("maxmemory", "1")
            delivered = await deliver(made, SPEC, texts(3))
            assert len(delivered.failures) == 3
            assert "OutOfMemoryError" in delivered.failures[0].error
            admin.config_set("maxmemory", "0")
            assert (await deliver(made, SPEC, texts(3))).failures == []
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://joe:wrong@127.0.0.1:{port}/0", "check user, password and rights"),
        ("redis://127.0.0.1:{port}/99", "database"),
    ],
)
async def test_n14_what_no_waiting_mends_ends_the_start_at_once(
    servers: tuple[Redis, Redis], url: str, why: str
) -> None:
    """A wrong login, a database that does not exist: exit code 2, with the key."""
    made = RedisSink("main", RedisSinkConfig(url=url.format(port=servers[0].port)))
    with pytest.raises(StartupError) as caught:
        await made.connect()
    assert caught.value.exit_code == 2
    assert caught.value.problems[0].where == "sinks.redis.main.url"
    assert why in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_a_server_that_is_away_is_no_ones_fault(servers: tuple[Redis, Redis]) -> None:
    """SinkNotConnected, and the class says so."""
    made = RedisSink("main", RedisSinkConfig(url=servers[0].address))
    await made.connect()
    servers[0].stop()
    with pytest.raises(SinkNotConnected):
        await made.write_batch(batch(*texts(2)))
    await made.close()
