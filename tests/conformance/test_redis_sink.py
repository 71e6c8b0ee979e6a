"""The Redis sink keeps every sink's promises, on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis as client

from drakkar_flow.errors import BatchFailed, SinkError, SinkRejected, StartupError
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.redis.payload import RedisPayload
from drakkar_flow.sinks.redis.settings import RedisSinkConfig
from drakkar_flow.sinks.redis.sink import SPEC, RedisSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkSuite
from scripts.servers.redis import Redis
from support.names import unique

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

COMPLAIN = "return redis.error_reply('BAD order ' .. ARGV[1])"
COUNT_TWICE = "redis.call('INCRBY', KEYS[1], ARGV[1]); return redis.call('INCRBY', KEYS[1], ARGV[1])"


class RedisBench(SinkBench):
    """One list under a prefix of its own."""

    spec = SPEC

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = unique("test") + ":"
        self.other = client.Redis.from_url(url)

    def sink(self) -> RedisSink:
        scripts = {"twice": COUNT_TWICE, "complain": COMPLAIN}
        return RedisSink("main", RedisSinkConfig(url=self.url, key_prefix=self.prefix, scripts=scripts))

    def unreachable(self) -> RedisSink:
        return RedisSink("main", RedisSinkConfig(url="redis://me:secret@127.0.0.1:1/0"))

    def payload(self, item: Any, key: bytes | str | None = None) -> RedisPayload:
        return RedisPayload(op="push", side="right", key="items", data=item)

    def odd(self) -> list[Any]:
        self.other.set(self.prefix + "text", "x")
        return [
            *super().odd(),
            RedisPayload(op="hset", key="h", fields={"ok": None}),  # type: ignore[dict-item]  # wrong on purpose
            RedisPayload(op="hset", key="h", fields={"ok": object()}),  # type: ignore[dict-item]  # wrong on purpose
            RedisPayload(op="hset", key="h", fields={"ok": "\ud800"}),
            RedisPayload(op="sadd", key="text", members=["x"]),
            RedisPayload(op="incrby", key="text", amount=1),
            RedisPayload(key="k", data="x", ttl=-5),
            RedisPayload(op="script", script="twice", keys=["text"], args=[1]),
        ]

    def read(self) -> list[Item]:
        return [json.loads(item) for item in cast("list[bytes]", self.other.lrange(self.prefix + "items", 0, -1))]


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[RedisBench, RedisSink]]:
    """A server that the test may break, and a sink for it."""
    server = Redis(tmp_path)
    server.start()
    bench = RedisBench(server.address)
    sink = bench.sink()
    await sink.connect()
    yield bench, sink
    await sink.close()
    bench.other.close()
    server.stop()


@pytest.fixture
def bench(redis: str) -> Iterator[RedisBench]:
    """A fresh prefix, whose keys go away after the test."""
    made = RedisBench(redis)
    yield made
    for key in made.other.scan_iter(f"{made.prefix}*"):
        made.other.delete(key)
    made.other.close()


class TestRedisSink(SinkSuite):
    """The suite."""


@pytest.fixture
async def sink(bench: RedisBench) -> AsyncIterator[RedisSink]:
    """A connected sink."""
    async with bench.connected() as made:
        assert isinstance(made, RedisSink)
        yield made


def deliveries(*payloads: RedisPayload) -> list[Delivery]:
    """Deliveries of payloads."""
    return [Delivery(payload, ()) for payload in payloads]


async def test_d39_a_value_is_set_under_its_prefix_with_its_time_to_live(bench: RedisBench, sink: RedisSink) -> None:
    """D-39: SET prefix:key value EX ttl."""
    await sink.write_batch(
        deliveries(RedisPayload(key="k", data={"a": 1}, ttl=60), RedisPayload(key="plain", data="x"))
    )
    assert bench.other.get(bench.prefix + "k") == b'{"a":1}'
    assert 50 < cast("int", bench.other.ttl(bench.prefix + "k")) <= 60
    assert bench.other.get(bench.prefix + "plain") == b"x"
    assert bench.other.ttl(bench.prefix + "plain") == -1


async def test_every_operation_does_what_its_name_says(bench: RedisBench, sink: RedisSink) -> None:
    """In one batch, in order."""
    await sink.write_batch(
        deliveries(
            RedisPayload(key="gone", data="x"),
            RedisPayload(op="delete", key="gone"),
            RedisPayload(key="soon", data="x"),
            RedisPayload(op="expire", key="soon", ttl=60),
            RedisPayload(op="incrby", key="n", amount=5),
            RedisPayload(op="script", script="twice", keys=["n"], args=[10]),
            RedisPayload(op="hset", key="h", fields={"a": 1, "b": "two"}),
            RedisPayload(op="hdel", key="h", fields=["a"]),
            *(RedisPayload(op="push", key="l", data=str(n)) for n in range(4)),
            RedisPayload(op="trim", key="l", start=0, stop=1),
            RedisPayload(op="sadd", key="s", members=["x", "y"]),
            RedisPayload(op="srem", key="s", members=["x"]),
            RedisPayload(op="zadd", key="z", members={"m": 1.5}),
        )
    )
    other, at = bench.other, bench.prefix
    assert other.get(at + "gone") is None
    assert 50 < cast("int", other.ttl(at + "soon")) <= 60
    assert other.get(at + "n") == b"25"
    assert other.hgetall(at + "h") == {b"b": b"two"}
    assert other.lrange(at + "l", 0, -1) == [b"3", b"2"]
    assert other.smembers(at + "s") == {b"y"}
    assert other.zrange(at + "z", 0, -1, withscores=True) == [(b"m", 1.5)]


async def test_a_command_on_the_wrong_type_fails_alone(bench: RedisBench, sink: RedisSink) -> None:
    """What stands around it is done, and it is not tried again."""
    await sink.write_batch(deliveries(RedisPayload(key="k", data="text")))
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(
            deliveries(
                RedisPayload(key="a", data="1"),
                RedisPayload(op="sadd", key="k", members=["x"]),
                RedisPayload(op="script", script="thrice", keys=["n"]),
                RedisPayload(key="b", data="2"),
            )
        )
    assert list(caught.value.failures) == [1, 2]
    assert all(isinstance(cause, SinkRejected) for cause in caught.value.failures.values())
    assert "WRONGTYPE" in str(caught.value.failures[1])
    assert "there are: complain, twice" in str(caught.value.failures[2])
    assert [bench.other.get(bench.prefix + key) for key in "ab"] == [b"1", b"2"]


async def test_a_server_that_forgot_the_scripts_gets_them_again(own: tuple[RedisBench, RedisSink]) -> None:
    """After a restart the first try fails, to be tried again; the second works."""
    bench, sink = own
    bench.other.script_flush()
    batch = deliveries(RedisPayload(op="script", script="twice", keys=["n"], args=[1]))
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(batch)
    assert not isinstance(caught.value.failures[0], SinkRejected)
    await sink.write_batch(batch)
    assert bench.other.get(bench.prefix + "n") == b"2"


async def test_a_connection_that_breaks_fails_the_batch_and_the_next_one_works(
    own: tuple[RedisBench, RedisSink],
) -> None:
    """The server closes all our connections: nothing is rejected, and the client connects again."""
    bench, sink = own
    await sink.write_batch(bench.batch([{"n": 1}]))
    bench.other.client_kill_filter(_type="normal", skipme=True)
    for _ in range(2):
        try:
            await sink.write_batch(bench.batch([{"n": 2}]))
            break
        except SinkError as error:
            if isinstance(error, SinkRejected | BatchFailed):
                raise
    assert bench.read() == [{"n": 1}, {"n": 2}]


async def test_a_password_is_in_no_error(bench: RedisBench) -> None:
    """What can't be reached is named without what opens it."""
    with pytest.raises(StartupError) as caught:
        await bench.unreachable().connect()
    assert "secret" not in str(caught.value)


async def test_g18_the_reason_of_a_refusal_quotes_no_value(sink: RedisSink) -> None:
    """What a script says, and arguments in an answer, are the detail."""
    secret = "private-4711"
    with pytest.raises(BatchFailed) as caught:
        await sink.write_batch(
            deliveries(
                RedisPayload(op="script", script="complain", keys=["k"], args=[secret]),
                RedisPayload(op="incrby", key="n", amount=secret),  # type: ignore[arg-type]  # wrong on purpose
            )
        )
    first, second = caught.value.failures.values()
    assert not any(secret in str(cause) for cause in (first, second, caught.value))
    assert isinstance(first, SinkRejected)
    assert secret in first.detail
    assert "BAD" in str(first)
    assert "not an integer" in str(second)
