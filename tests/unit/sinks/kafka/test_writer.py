"""The writer's thread sends together what waits, and gives every batch its own failures."""

from __future__ import annotations

import asyncio
import queue
from typing import Any

import pytest

from drakkar_flow.errors import SinkError, SinkNotConnected
from drakkar_flow.sinks.kafka import writer as kafka_writer
from drakkar_flow.sinks.kafka.client import Outgoing, producer_config
from drakkar_flow.sinks.kafka.writer import MERGE_MESSAGES, KafkaWriter

pytestmark = pytest.mark.anyio


class FakeClient:
    """Fails the messages whose value is b"bad", or everything."""

    def __init__(self, *args: Any, broken: bool = False) -> None:
        self.broken = broken
        self.sent: list[list[Outgoing]] = []

    def connect(self) -> None: ...

    def poll(self) -> None: ...

    def close(self) -> None: ...

    def send(self, messages: list[Outgoing]) -> dict[int, SinkError]:
        if self.broken:
            raise ZeroDivisionError("a bug")
        self.sent.append(messages)
        return {index: SinkError("bad") for index, each in enumerate(messages) if each["value"] == b"bad"}


def waiting(*sizes: int, closed: bool = False) -> queue.SimpleQueue[Any]:
    """A queue of batches of these sizes."""
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for size in sizes:
        made.put(kafka_writer.Batch(messages(*[b"x"] * size), None))  # type: ignore[arg-type]  # a fake of what is used
    if closed:
        made.put(None)
    return made


def messages(*values: bytes) -> list[Outgoing]:
    """Messages without keys."""
    return [{"value": value, "key": None} for value in values]


@pytest.mark.parametrize(
    ("sizes", "closed", "taken", "end"),
    [
        ((3,), False, [3], False),
        ((3, 4), False, [3, 4], False),
        ((3, 4), True, [3, 4], True),
        ((), True, [], True),
        ((MERGE_MESSAGES, 1), True, [MERGE_MESSAGES], False),
        ((1, MERGE_MESSAGES, 1), False, [1, MERGE_MESSAGES], False),
    ],
)
def test_what_waits_is_taken_together_up_to_a_bound(
    sizes: tuple[int, ...], closed: bool, taken: list[int], end: bool
) -> None:
    """The end is only seen when everything before it was taken."""
    line = waiting(*sizes, closed=closed)
    batches, closing = kafka_writer.merge(line.get(), line)

    assert [len(batch.messages) for batch in batches] == taken
    assert closing is end


def test_each_batch_gets_its_own_failures() -> None:
    """Positions count from the beginning of the batch, whatever it was sent with."""
    client = FakeClient()
    batches = [
        kafka_writer.Batch(messages(*values), None)  # type: ignore[arg-type]  # a fake of what is used
        for values in ([b"a", b"bad"], [b"b"], [b"bad", b"c", b"bad"])
    ]
    outcomes = kafka_writer.send(client, batches)  # type: ignore[arg-type]  # a fake of what is used

    assert [list(outcome) for outcome in outcomes] == [[1], [], [0, 2]]
    assert len(client.sent) == 1


@pytest.fixture
def writer() -> KafkaWriter:
    """A writer that is not connected."""
    return KafkaWriter("sinks.kafka.x", "t", producer_config("b:9092", {}))


async def test_a_bug_in_the_client_fails_the_batch_and_not_the_thread(
    writer: KafkaWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever: all messages fail, and the next batch is tried."""
    client = FakeClient(broken=True)
    monkeypatch.setattr(kafka_writer, "KafkaClient", lambda *_: client)
    await writer.connect()

    assert list(await writer.write(messages(b"a", b"b"))) == [0, 1]
    client.broken = False
    assert await writer.write(messages(b"a")) == {}
    await writer.close()


async def test_writers_that_find_it_full_wait_their_turn(writer: KafkaWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line to the thread is bounded, and the order is that of the calls."""
    client = FakeClient()
    monkeypatch.setattr(kafka_writer, "KafkaClient", lambda *_: client)
    await writer.connect()
    calls = [writer.write(messages(str(number).encode())) for number in range(3 * kafka_writer.MAX_WAITING)]
    assert await asyncio.gather(*calls) == [{}] * len(calls)
    await writer.close()

    assert [int(each["value"]) for sent in client.sent for each in sent] == list(range(len(calls)))


async def test_without_a_connection_nothing_waits(writer: KafkaWriter) -> None:
    """Not even an empty batch."""
    with pytest.raises(SinkNotConnected, match=r"sinks\.kafka\.x"):
        await writer.write([])
