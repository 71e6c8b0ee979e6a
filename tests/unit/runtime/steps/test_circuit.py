"""Delivery to a sink that keeps failing: when it is left alone, what becomes of its batches, how it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from drakkar_flow import DeliveryAction
from drakkar_flow.config.sections.delivery import CircuitBreakerConfig
from drakkar_flow.errors import SinkError, SinkRejected
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.outcome import Ack, AckStatus, Delivery, Failure
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.sinks import SinkCircuitChanged
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.deliver import DeliverSettings, DeliverStep
from drakkar_flow.testing import MemorySink
from support.steps import Alone, context_of

pytestmark = pytest.mark.anyio

COOLDOWN_S = 30.0
DOWN = SinkError("down")


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Desk:
    """One sink's delivery, a batch of one payload at a time, by a clock that stands still."""

    def __init__(
        self,
        script: Iterable[Exception | None] = (),
        *,
        on_error: Callable[..., Any] | None = None,
        when_open: str = "dlq",
        attempts: int = 1,
        max_in_flight: int = 1,
        cooldown_s: float = COOLDOWN_S,
    ) -> None:
        self.now = 0.0
        self.changes: list[SinkCircuitChanged] = []
        self.in_flight = InFlight(100, 10_000)
        self.sink = MemorySink(script=script)
        bus = Bus()
        bus.listen(SinkCircuitChanged, self.changes.append)
        config = CircuitBreakerConfig(failure_threshold=3, cooldown_seconds=cooldown_s, when_open=when_open)
        self.circuit = Circuit(bus, "kafka", "out", config, clock=lambda: self.now)
        settings = DeliverSettings(
            "kafka", "out", max_in_flight, 1, attempts, Backoff(initial_s=0.001, max_s=0.001), on_error=on_error
        )
        context = context_of(self.in_flight, bus=bus)
        make = (context, "sink", self.sink, settings, self.circuit)
        self.step = Alone(DeliverStep(*make), context)
        self.other_shard = Alone(DeliverStep(*make), context)
        self.acks: list[Ack] = []
        self.failures: list[Failure] = []

    @property
    def states(self) -> list[str]:
        """What was told of the circuit."""
        return [change.state for change in self.changes]

    @property
    def letters(self) -> list[Any]:
        """The data of payloads that were given up."""
        return [failure.payload.data for failure in self.failures]

    def put(self, *values: Any, step: Alone | None = None) -> None:
        """Hand over payloads, each a batch of its own."""
        payload_of = self.sink.part().spec.wrap
        records = [Record(topic="in", partition=0, offset=value) for value in values]
        deliveries = [
            Delivery(payload_of(record.offset, record, "out", None), ((record, record.credit),)) for record in records
        ]
        (step or self.step).put(*deliveries)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the loop turn until something holds."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - conditions are about what has no event
                await asyncio.sleep(0)

    async def deliver(self, *values: Any) -> None:
        """Hand over payloads and wait until all of them have ended."""
        self.put(*values)
        await self.until(lambda: self.step.idle)
        chunk = self.step.take()
        self.acks += chunk.acks
        self.failures += chunk.failures


async def test_d36_a_sink_that_fails_three_times_in_a_row_is_called_no_more() -> None:
    """D-36: fail, fail, ok, fail, fail and it is used still; after three the next batch is a dead letter, uncalled."""
    desk = Desk([DOWN, DOWN, None, DOWN, DOWN, DOWN])
    await desk.deliver(0, 1, 2, 3, 4)
    assert desk.states == []
    await desk.deliver(5, 6)
    assert desk.sink.writes == 6
    assert desk.states == ["open"]
    assert (desk.changes[0].failures, desk.changes[0].reason) == (3, "down")
    assert desk.letters == [0, 1, 3, 4, 5, 6]
    last = desk.failures[-1]
    assert last.error == "circuit open: 3 batches in a row failed, the last error: down"
    assert (last.sink_type, last.sink_name, last.attempts) == ("kafka", "out", 0)


async def test_d36_an_open_circuit_asks_no_hook_and_leaves_the_decision_to_the_route() -> None:
    """on_delivery_error is asked about what was tried; what was not is no dead letter by the handler's word."""
    asked = []

    def decide(error: DeliveryError) -> DeliveryAction:
        asked.append(error.payloads[0].data)
        return DeliveryAction.DLQ

    desk = Desk([DOWN] * 3, on_error=decide)
    await desk.deliver(0, 1, 2, 3)
    assert asked == [0, 1, 2]
    assert [failure.to_dlq for failure in desk.failures] == [True, True, True, False]


async def test_d37_after_the_cool_down_one_batch_probes_and_brings_the_sink_back() -> None:
    """D-37: of two that come together one is written, the other is a dead letter; then all are written."""
    desk = Desk([DOWN] * 3, max_in_flight=2)
    await desk.deliver(0, 1, 2)
    desk.now = COOLDOWN_S
    desk.sink.gate.shut()
    desk.put(3, 4)
    await desk.until(lambda: desk.step.step.open == 1)
    assert desk.sink.gate.waiting == 1
    assert desk.states == ["open", "half_open"]
    desk.sink.gate.open()
    await desk.deliver()
    await desk.deliver(5)
    assert desk.sink.values == [3, 5]
    assert desk.letters == [0, 1, 2, 4]
    assert desk.states == ["open", "half_open", "closed"]


async def test_a_probe_that_fails_is_a_trip_and_begins_the_cool_down_anew() -> None:
    """It is counted from then on."""
    desk = Desk([DOWN] * 4)
    await desk.deliver(0, 1, 2)
    desk.now = COOLDOWN_S
    await desk.deliver(3)
    assert desk.states == ["open", "half_open", "open"]
    desk.now = 2 * COOLDOWN_S - 1
    await desk.deliver(4)
    assert desk.sink.writes == 4
    desk.now = 2 * COOLDOWN_S
    await desk.deliver(5)
    assert desk.sink.values == [5]


@pytest.mark.parametrize("answer", ["skip", "raises", "rejected", "fenced"])
async def test_d37_a_probe_that_ends_without_an_outcome_makes_place_for_the_next(answer: str) -> None:
    """D-37: skipped, a hook that raised, a refused payload, a revoked partition: the next batch probes at once."""
    probing = False

    def decide(error: DeliveryError) -> DeliveryAction:
        if not probing:
            return DeliveryAction.DLQ
        if answer == "raises":
            raise RuntimeError("hook broke")
        return DeliveryAction.SKIP if answer == "skip" else DeliveryAction.DLQ

    probe = SinkRejected("no") if answer == "rejected" else DOWN
    desk = Desk([DOWN] * 3 + ([probe] if answer != "fenced" else []), on_error=decide)
    await desk.deliver(0, 1, 2)
    probing = True
    desk.now = COOLDOWN_S
    if answer == "fenced":
        record = Record(topic="in", partition=0, offset=3)
        desk.in_flight.add((("in", 0), 0), [record])
        desk.in_flight.fence([(("in", 0), 0)])
        await desk.deliver(3)
        desk.in_flight.release((("in", 0), 0), 1, record.size)
    else:
        await desk.deliver(3)
    await desk.deliver(4)
    assert desk.sink.values == [4]
    assert desk.states == ["open", "half_open", "closed"]


async def test_d38_a_batch_counts_once_whatever_it_took() -> None:
    """D-38: threshold 3; one batch tried three times, again by the hook's RETRY, is one failure when it is given up."""
    answers = iter([DeliveryAction.RETRY, DeliveryAction.RETRY, *[DeliveryAction.DLQ] * 9])
    desk = Desk([DOWN] * 99, on_error=lambda _: next(answers), attempts=3)
    await desk.deliver(0)
    assert desk.sink.writes == 9
    await desk.deliver(1)
    assert desk.states == []
    await desk.deliver(2)
    assert desk.states == ["open"]


@pytest.mark.parametrize("ending", ["skipped", "refused"])
async def test_what_says_nothing_about_the_sink_does_not_count(ending: str) -> None:
    """Skipped batches and payloads that the target refuses leave the circuit closed, however many."""
    error = SinkRejected("too large") if ending == "refused" else DOWN
    action = DeliveryAction.DLQ if ending == "refused" else DeliveryAction.SKIP
    desk = Desk([error] * 9, on_error=lambda _: action)
    await desk.deliver(*range(9))
    assert desk.sink.writes == 9
    assert desk.states == []


async def test_a_hook_that_raises_does_not_keep_a_failing_sink_in_use() -> None:
    """Its payloads are dead letters, and count."""

    def decide(_: DeliveryError) -> None:
        raise RuntimeError("hook broke")

    desk = Desk([DOWN] * 9, on_error=decide)
    await desk.deliver(0, 1, 2, 3)
    assert desk.sink.writes == 3
    assert desk.states == ["open"]


async def test_all_shards_of_a_sink_have_one_circuit() -> None:
    """What one shard learned holds for the others."""
    desk = Desk([DOWN] * 3)
    await desk.deliver(0, 1, 2)
    desk.put(3, step=desk.other_shard)
    await desk.until(lambda: desk.other_shard.idle)
    assert desk.sink.writes == 3


@pytest.mark.parametrize("max_in_flight", [1, 4])
async def test_with_wait_nothing_is_a_dead_letter_and_the_order_stays(max_in_flight: int) -> None:
    """Batches are held while the sink is left alone, and written in order once a probe works."""
    desk = Desk([DOWN] * 7, when_open="wait", cooldown_s=0.01, max_in_flight=max_in_flight)
    desk.put(0, 1, 2, 3, 4, 5)
    await desk.until(lambda: desk.states == ["open"])
    held = desk.sink.writes
    await asyncio.sleep(0)
    assert desk.sink.writes == held

    def pass_the_time() -> bool:
        desk.now += 1
        return desk.step.idle

    await desk.until(pass_the_time)
    await desk.deliver()
    assert sorted(desk.sink.values) == [0, 1, 2, 3, 4, 5]
    assert max_in_flight > 1 or desk.sink.values == [0, 1, 2, 3, 4, 5]
    assert desk.letters == []
    assert desk.states[-2:] == ["half_open", "closed"]
    assert {ack.status for ack in desk.acks} == {AckStatus.DONE}


async def test_with_wait_a_hook_decides_while_the_sink_is_in_use_and_never_while_it_is_left_alone() -> None:
    """Three failures are the handler's; the batch behind them waits, its failed probe included."""
    asked = []

    def decide(error: DeliveryError) -> DeliveryAction:
        asked.append(error.payloads[0].data)
        return DeliveryAction.DLQ

    desk = Desk([DOWN] * 4, when_open="wait", on_error=decide, cooldown_s=0)
    await desk.deliver(0, 1, 2, 3)
    assert asked == desk.letters == [0, 1, 2]
    assert desk.sink.values == [3]


async def test_with_wait_a_refused_payload_is_a_dead_letter_all_the_same() -> None:
    """It would be refused for ever."""
    desk = Desk([SinkRejected("too large")], when_open="wait")
    await desk.deliver(0, 1)
    assert (desk.letters, desk.sink.values) == ([0], [1])


async def test_with_wait_a_probe_without_an_outcome_wakes_the_next() -> None:
    """Of two that wait one probes; its payload is refused, so the other probes, without anybody else coming by."""
    script = [DOWN, DOWN, DOWN, SinkRejected("no")]
    desk = Desk(script, when_open="wait", max_in_flight=2, on_error=lambda _: DeliveryAction.DLQ)
    await desk.deliver(0, 1, 2)
    desk.now = COOLDOWN_S
    desk.sink.gate.shut()
    desk.put(3, 4)
    await desk.until(lambda: desk.sink.gate.waiting)
    desk.sink.gate.open()
    await desk.deliver()
    assert desk.letters == [0, 1, 2, 3]
    assert desk.sink.values == [4]
    assert desk.states == ["open", "half_open", "closed"]
