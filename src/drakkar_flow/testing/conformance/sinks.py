"""Conformance suite of sinks: a test for each guarantee of a sink."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, model_serializer

from drakkar_flow.errors import BatchFailed, SinkError, SinkNotConnected, SinkRejected, StartupError
from drakkar_flow.kinds.sink import Sink, SinkSpec
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.testing.conformance.delivering import deliver
from drakkar_flow.testing.conformance.limits import few_descriptors

__all__ = ["Item", "SinkBench", "SinkFeatures", "SinkSuite", "items"]

Item = dict[str, Any]


@dataclass(frozen=True)
class SinkFeatures:
    """Abilities of a sink beyond the contract."""

    keys: bool = False
    """Payloads carry keys that readers see."""
    nul: bool = True
    """Text may contain the character NUL."""
    waits: bool = True
    """True if `unreachable` may become reachable by itself, so that the start waits for it."""
    atomic: bool = True
    """A batch is written whole or not at all."""
    many: int = 5000
    """Payloads of the largest batch of the suite: many times `SinkSpec.max_batch`."""


class SinkBench(ABC):
    """One target, with ways to write to it through the sink and to read it without."""

    spec: SinkSpec
    features = SinkFeatures()

    @abstractmethod
    def sink(self) -> Sink:
        """Return a sink for the target, not connected."""

    @abstractmethod
    def unreachable(self) -> Sink:
        """Return a sink whose target is missing, and which notices within seconds."""

    @abstractmethod
    def payload(self, item: Any, key: bytes | str | None = None) -> Any:
        """Return a payload with `item` as its data."""

    @abstractmethod
    def read(self) -> list[Item]:
        """Return all items of the target in the order they were written, read without the sink."""

    def odd(self) -> list[Any]:
        """Return payloads that the target or its client can't accept, each for a different reason."""
        return [self.payload(object()), self.payload(Unserializable(n=1, text="x")), self.payload(Leaving(n=1))]

    def keys(self) -> list[bytes | None]:
        """Return the keys of the items."""
        raise NotImplementedError

    @asynccontextmanager
    async def connected(self, sink: Sink | None = None) -> AsyncIterator[Sink]:
        """Connect a sink that is closed at the end."""
        sink = sink or self.sink()
        await sink.connect()
        try:
            yield sink
        finally:
            await sink.close()

    def batch(self, items: Sequence[Any]) -> list[Delivery]:
        """Return deliveries for items."""
        return [Delivery(self.payload(item), ()) for item in items]


def items(count: int, start: int = 0) -> list[Item]:
    """Return items that contain their position."""
    return [{"n": number, "text": f"item {number}"} for number in range(start, start + count)]


class Unserializable(BaseModel):
    """A model whose serializer fails with an error without a text."""

    n: int
    text: str

    @model_serializer
    def _fail(self) -> dict[str, Any]:
        raise Unprintable


class Leaving(BaseModel):
    """A model whose serializer ends the process."""

    n: int

    @model_serializer
    def _leave(self) -> dict[str, Any]:
        raise SystemExit(3)


class Unprintable(Exception):
    """An error whose text can't be made."""

    def __str__(self) -> str:
        raise AttributeError("no text")


@pytest.mark.anyio
class SinkSuite:
    """Guarantees of a sink, one test each; `bench` is a fixture of the subclass."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Event loop of all sinks."""
        return "asyncio"

    async def test_a_batch_is_there_when_write_batch_returns(self, bench: SinkBench) -> None:
        """An independent reader sees the batch while the sink is still open."""
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch(items(3)))

            assert bench.read() == items(3)

    async def test_connecting_twice_is_connecting_once(self, bench: SinkBench) -> None:
        """A second connect does no harm, and payloads are written once."""
        async with bench.connected() as sink:
            await sink.connect()
            await sink.write_batch(bench.batch(items(2)))

        assert bench.read() == items(2)

    async def test_close_is_safe_at_any_time(self, bench: SinkBench) -> None:
        """Closing before connecting and closing twice do nothing."""
        sink = bench.sink()
        await sink.close()
        await sink.connect()
        await sink.close()
        await sink.close()

    async def test_a_closed_sink_connects_again(self, bench: SinkBench) -> None:
        """Payloads written after a new connect are added to the existing ones."""
        sink = bench.sink()
        for start in (0, 2):
            await sink.connect()
            await sink.write_batch(bench.batch(items(2, start)))
            await sink.close()

        assert bench.read() == items(4)

    async def test_writing_needs_a_connection(self, bench: SinkBench) -> None:
        """Before connect and after close no payload can be written."""
        sink = bench.sink()
        with pytest.raises(SinkNotConnected):
            await sink.write_batch(bench.batch(items(1)))
        await sink.connect()
        await sink.close()
        with pytest.raises(SinkNotConnected):
            await sink.write_batch(bench.batch(items(1)))

    async def test_an_empty_batch_is_nothing(self, bench: SinkBench) -> None:
        """Writing no payloads succeeds and writes nothing."""
        async with bench.connected() as sink:
            await sink.write_batch([])
            await sink.write_batch(bench.batch(items(1)))

        assert bench.read() == items(1)

    async def test_batches_keep_their_order(self, bench: SinkBench) -> None:
        """One batch after the other stays so, and so do payloads within a batch."""
        async with bench.connected() as sink:
            for start in range(0, 50, 5):
                await sink.write_batch(bench.batch(items(5, start)))

        assert bench.read() == items(50)

    async def test_many_payloads_fit_one_batch(self, bench: SinkBench) -> None:
        """A batch far above the limit that the runtime keeps is written whole and in order."""
        many = items(bench.features.many)
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch(many))

        assert bench.read() == many

    async def test_text_of_any_language_survives(self, bench: SinkBench) -> None:
        """Non-ASCII text and line breaks inside it are read back unchanged."""
        odd = [{"n": 0, "text": "Grüße, 世界 🌍"}, {"n": 1, "text": "two\nlines\r\n\u2028" + "\0" * bench.features.nul}]
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch(odd))

        assert bench.read() == odd

    async def test_binary_keys_survive(self, bench: SinkBench) -> None:
        """Keys of any bytes, text and no key at all are read back unchanged."""
        if not bench.features.keys:
            pytest.skip("this kind of sink has no keys")
        keys = [b"\xff\x00", "schlüssel", None, b""]
        async with bench.connected() as sink:
            await sink.write_batch([Delivery(bench.payload(items(1)[0], key), ()) for key in keys])

        assert bench.keys() == [b"\xff\x00", "schlüssel".encode(), None, b""]

    async def test_what_cannot_be_encoded_fails_alone(self, bench: SinkBench) -> None:
        """Such payloads are rejected by their index; all the others are written."""
        good = items(4)
        async with bench.connected() as sink:
            with pytest.raises(BatchFailed) as caught:
                await sink.write_batch(bench.batch([object(), good[0], good[1], {"n": object()}, good[2], good[3]]))

        assert list(caught.value.failures) == [0, 3]
        assert all(isinstance(cause, SinkRejected) for cause in caught.value.failures.values())
        assert bench.read() == good

    async def test_an_unreachable_target_is_told_at_connect(self, bench: SinkBench) -> None:
        """The error names the setting, what is wrong and what to do; the sink may be closed after it."""
        sink = bench.unreachable()
        with pytest.raises(StartupError) as caught:
            await sink.connect()
        await sink.close()

        (problem,) = caught.value.problems
        assert problem.where.startswith(f"sinks.{bench.spec.kind}.")
        assert problem.what
        assert problem.remedy
        assert caught.value.exit_code == (1 if bench.features.waits else 2)

    async def test_overlapping_batches_are_all_written(self, bench: SinkBench) -> None:
        """As many calls as `max_in_flight` allows may overlap; each keeps its order."""
        calls = bench.spec.max_in_flight
        async with bench.connected() as sink, anyio.create_task_group() as group:
            for call in range(calls):
                group.start_soon(sink.write_batch, bench.batch(items(100, call * 100)))

        assert bench.read() == items(100 * calls)

    async def test_a_cancelled_write_leaves_the_sink_usable(self, bench: SinkBench) -> None:
        """The batch after a cancelled one is written whole and in order."""
        async with bench.connected() as sink:
            async with anyio.create_task_group() as group:
                group.start_soon(sink.write_batch, bench.batch(items(500)))
                await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await sink.write_batch(bench.batch(items(3, 1000)))

        written = bench.read()
        assert written[-3:] == items(3, 1000)
        rest = written[:-3]
        assert rest in ([], items(500)) or (not bench.features.atomic and rest == items(len(rest)))

    async def test_the_event_loop_is_not_blocked(self, bench: SinkBench) -> None:
        """While a batch is written, other work on the loop continues."""
        turns = 0
        async with bench.connected() as sink, anyio.create_task_group() as group:

            async def spin() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await anyio.lowlevel.checkpoint()

            group.start_soon(spin)
            before = turns
            await sink.write_batch(bench.batch(items(min(2000, bench.features.many))))
            during = turns - before
            group.cancel_scope.cancel()

        assert during > 1

    async def test_f3_want_of_descriptors_is_an_outage(self, bench: SinkBench) -> None:
        """No payload is refused for lack of descriptors, and later payloads are written."""
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch(items(1)))
            left = items(2, 1)
            with few_descriptors(left=0):
                try:
                    await sink.write_batch(bench.batch(left))
                except SinkError as error:
                    causes = error.failures.values() if isinstance(error, BatchFailed) else [error]
                    assert not any(isinstance(cause, SinkRejected) for cause in causes)
                else:
                    left = []
            await sink.write_batch(bench.batch(left))
        assert {item["n"] for item in bench.read()} == {0, 1, 2}

    @pytest.mark.parametrize("when_open", ["dlq", "wait"])
    async def test_f6_an_odd_payload_costs_no_neighbour(self, bench: SinkBench, when_open: str) -> None:
        """An odd payload fails, and its neighbours are written once, in order, without delay."""
        odd = bench.odd()
        good = items(2 * len(odd) + 2)
        payloads = [bench.payload(item) for item in good]
        for number, payload in enumerate(odd):
            payloads.insert(3 * number + 1, payload)
        async with bench.connected() as sink:
            delivered = await deliver(sink, bench.spec, payloads, when_open=when_open)

        failed = [id(payload) for payload in delivered.failed]
        unexpected = [number for number, payload in enumerate(odd) if id(payload) not in failed]
        assert unexpected == []
        assert len(failed) == len(odd)
        assert bench.read() == good
        assert len(delivered.acknowledged) == len(good)
