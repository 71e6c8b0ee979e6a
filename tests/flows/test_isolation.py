"""Isolation: a payload that makes its batch fail as a whole fails alone, whatever the sink raises."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import DeliveryAction, DrakkarConfig, StreamFlow
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.errors import BatchFailed, RetryAfter, SinkError, SinkMisconfigured, SinkRejected
from drakkar_flow.graph.nodes import KafkaSink
from drakkar_flow.observe.events.sinks import DeliveriesFailed, SinkCircuitChanged
from drakkar_flow.testing import FlowHarness, FlowRun, MemorySink, MemorySinkSettings, run_flow
from support.handlers import LANE

WAIT = DrakkarConfig(sinks={"circuit_breaker": {"failure_threshold": 1, "cooldown_seconds": 0, "when_open": "wait"}})


class Unprintable(Exception):
    """An exception whose text can't be made, as that of a broken value."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Picky:
    """Fails every write that has a bad value in it."""

    def __init__(self, *bad: int, error: Exception) -> None:
        self.bad = set(bad)
        self.error = error
        self.calls: list[list[int]] = []

    def __call__(self, payloads: list[Any]) -> None:
        """Raise when a bad one is among them."""
        self.calls.append([payload.data for payload in payloads])
        if self.bad & set(self.calls[-1]):
            raise self.error


def flow(**route: Any) -> StreamFlow:
    """A flow that delivers numbers as they are."""
    return StreamFlow("isolate").decode(int).route(KafkaSink("out"), **route)


def sink(script: Any, **settings: Any) -> MemorySink:
    """A sink that is tried three times."""
    retry = RetryConfig(attempts=3, initial_s=0.001, max_s=0.001)
    return MemorySink(script=script, settings=MemorySinkSettings(retry=retry, **settings))


def letters(outcome: Any) -> list[int]:
    """The values of the dead letters."""
    return sorted(letter.payload.data for letter in outcome.dead_letters)


ODD = [
    TypeError("not encodable"),
    AttributeError("no such attribute"),
    ValueError("bad value"),
    KeyError("name"),
    RuntimeError("of a client library"),
    Exception("of a client library"),
    Unprintable(),
]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("config", [None, WAIT], ids=["dlq", "wait"])
def test_f6_an_unexpected_exception_costs_only_the_payload_that_causes_it(
    error: Exception, config: DrakkarConfig | None
) -> None:
    """Its neighbours are written once, in their order; nothing stops."""
    target = sink(Picky(7, error=error))
    outcome = run_flow(flow(), range(20), sinks=[target], config=config)
    assert sorted(target.values) == [n for n in range(20) if n != 7]
    assert letters(outcome) == [7]
    assert outcome.committed == {LANE: 20}


@pytest.mark.parametrize("bad", [{0}, {499}, {250}, {3, 4, 401}], ids=str)
def test_g6_one_bad_payload_in_five_hundred_costs_at_most_twelve_extra_writes(bad: set[int]) -> None:
    """The search halves what is left; several bad ones cost as much each."""
    script = Picky(*bad, error=TypeError("odd"))
    target = sink(script)
    with FlowRun(flow(), range(500), sinks=[target]) as run:
        target.gate.shut()
        target.gate.open()
        outcome = run.finish()
    assert letters(outcome) == sorted(bad)
    assert sorted(target.values) == sorted(set(range(500)) - bad)
    first = next(index for index, call in enumerate(script.calls) if set(call) & bad)
    assert len(script.calls) - first - 1 <= 12 * len(bad)


def test_g20_a_fault_of_the_value_is_not_tried_again_and_an_outage_is() -> None:
    """ValueError once, OSError as often as the settings say."""
    for error, writes in ((ValueError("bad"), 1), (OSError("down"), 3)):
        target = sink([error] * 9)
        outcome = run_flow(flow(), [1], sinks=[target])
        assert (target.writes, letters(outcome)) == (writes, [1])


def test_on_delivery_error_may_try_a_fault_again() -> None:
    """RETRY gives it another try, as the hook wants it; the others are not written again."""
    asked: list[int] = []

    def decide(error: Any) -> DeliveryAction:
        asked.extend(payload.data for payload in error.payloads)
        return DeliveryAction.RETRY

    script = Picky(2, error=TypeError("odd"))
    target = sink(script)
    with FlowRun(flow(on_delivery_error=decide), [1, 2, 3], sinks=[target]) as run:
        run.wait_until(lambda: len(asked) >= 2)
        script.bad.clear()
        outcome = run.finish()
    assert set(asked) == {2}
    assert sorted(target.values) == [1, 2, 3]
    assert outcome.dead_letters == []


@pytest.mark.parametrize("error", [SinkError("odd"), RuntimeError("odd"), RetryAfter(0.001, "busy")], ids=str)
def test_f6_with_wait_a_bad_payload_in_a_batch_of_its_own_stops_nothing(error: Exception) -> None:
    """What comes behind it is written; then the payload, and not the sink, is to blame."""
    script = Picky(1, error=error)
    one = sink(lambda payloads: _by_name(script, payloads))
    with FlowHarness(flow(), config=WAIT, sinks=[one]) as kit:
        bad = kit.send(1)
        kit.wait_for(lambda: one.writes >= 2)
        for value in range(2, 40):
            kit.wait_acknowledged(kit.send(value))
        kit.wait_acknowledged(bad)
        outcome = kit.outcome()
    assert letters(outcome) == [1]
    assert one.values == list(range(2, 40))


def test_f6_with_wait_an_outage_in_the_middle_of_a_batch_makes_no_letters() -> None:
    """The first payloads are written, then the sink is down: it waits, whoever was written before."""
    down = [20]

    def script(payloads: list[Any]) -> None:
        down[0] -= 1
        if down[0] == 19:
            raise BatchFailed({index: SinkError("500") for index in range(2, len(payloads))})
        if down[0] > 0:
            raise BatchFailed({index: SinkError("500") for index in range(len(payloads))})

    target = sink(script)
    outcome = run_flow(flow(), range(10), sinks=[target], config=WAIT)
    assert sorted(target.values) == list(range(10))
    assert outcome.dead_letters == []


def _by_name(script: Picky, payloads: list[Any]) -> None:
    """Fail as a sink does that knows the fate of each payload."""
    failures = {}
    for index, payload in enumerate(payloads):
        try:
            script([payload])
        except Exception as error:
            failures[index] = error
    if failures:
        raise BatchFailed(failures)


def test_with_wait_an_outage_keeps_the_order_whatever_joins_the_batch() -> None:
    """A SinkError of a whole batch is not searched for a bad payload: what waits behind goes on behind it."""
    target = sink([SinkError("down")] * 20)
    outcome = run_flow(flow(), range(40), sinks=[target], config=WAIT)
    assert target.values == list(range(40))
    assert outcome.dead_letters == []


def test_an_outage_in_the_middle_of_the_search_ends_it_and_nothing_is_lost_or_doubled() -> None:
    """What was written stays written; the rest is tried again as a whole."""
    turns = [TypeError("odd"), None, OSError("down"), OSError("down")]

    def script(payloads: list[Any]) -> None:
        error = turns.pop(0) if turns else None
        if error is not None:
            raise error

    target = sink(script)
    outcome = run_flow(flow(), range(8), sinks=[target])
    assert sorted(target.values) == list(range(8))
    assert outcome.dead_letters == []


def test_an_outage_is_not_searched_for_a_bad_payload() -> None:
    """SinkError, OSError and TimeoutError fail the batch: as many writes as attempts."""
    for error in (SinkError("down"), OSError("down"), TimeoutError()):
        target = sink([error] * 99)
        run_flow(flow(), range(5), sinks=[target])
        assert target.writes == 3


def test_n1_a_statement_that_is_refused_is_neither_searched_nor_tried_again() -> None:
    """SinkMisconfigured: one write, and its class is in the letters."""
    target = sink([SinkMisconfigured("table hits does not exist", "create it")] * 99)
    outcome = run_flow(flow(), range(5), sinks=[target])
    assert target.writes == 1
    assert {letter.exception_class for letter in outcome.dead_letters} == {"drakkar_flow.errors.SinkMisconfigured"}
    assert {letter.error for letter in outcome.dead_letters} == {"table hits does not exist; create it"}
    assert letters(outcome) == list(range(5))


def test_n1_a_refused_statement_beside_good_payloads_is_refused_alone() -> None:
    """Named in a BatchFailed it is final for its payload."""
    target = sink([BatchFailed({1: SinkMisconfigured("no table"), 2: SinkRejected("null")})])
    outcome = run_flow(flow(), range(4), sinks=[target], config=WAIT)
    assert (target.values, letters(outcome)) == ([0, 3], [1, 2])
    assert outcome.of(SinkCircuitChanged) == []


def test_a_bad_payload_whose_neighbours_are_written_does_not_open_the_circuit() -> None:
    """It counts as refused, not as an outage of the sink."""
    config = DrakkarConfig(sinks={"circuit_breaker": {"failure_threshold": 1}})
    outcome = run_flow(flow(), range(20), sinks=[sink(Picky(3, 9, error=RuntimeError("odd")))], config=config)
    assert letters(outcome) == [3, 9]
    assert outcome.of(SinkCircuitChanged) == []
    assert sum(event.count for event in outcome.of(DeliveriesFailed)) == 2


def test_a_serializer_that_ends_the_process_costs_its_payload_only() -> None:
    """SystemExit out of a payload's own code does not end the event loop."""

    def script(payloads: list[Any]) -> None:
        if any(payload.data == 2 for payload in payloads):
            raise SystemExit(3)

    target = sink(script)
    outcome = run_flow(flow(), [1, 2, 3], sinks=[target])
    assert (sorted(target.values), letters(outcome)) == ([1, 3], [2])


def test_every_letter_has_the_cause_of_its_own_payload() -> None:
    """And not that of the batch, whose first cause is another payload's."""
    causes = {1: SinkError("one"), 2: OSError("two")}
    outcome = run_flow(flow(), range(3), sinks=[sink(lambda items: _named(items, causes))])
    found = {letter.payload.data: (letter.error, letter.exception_class) for letter in outcome.dead_letters}
    assert found == {1: ("one", "drakkar_flow.errors.SinkError"), 2: ("two", "builtins.OSError")}


def _named(payloads: list[Any], causes: dict[int, Exception]) -> None:
    """Fail those that have a cause."""
    failures = {index: causes[each.data] for index, each in enumerate(payloads) if each.data in causes}
    if failures:
        raise BatchFailed(failures)
