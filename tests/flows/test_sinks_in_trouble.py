"""Sinks in trouble: they stay down, never return, or ask for a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from drakkar_flow import DeliveryAction, DrakkarConfig, KafkaSink, StreamFlow
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.errors import BatchFailed, RetryAfter, SinkError, SinkRejected
from drakkar_flow.graph.nodes import SinkRef
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.observe.events.sinks import DeliveryRetried, SinkCircuitChanged
from drakkar_flow.testing import FlowRun, MemorySink, MemorySinkSettings, run_flow
from support.handlers import LANE

DOWN = SinkError("down")
PATIENT = RetryConfig(attempts=3, initial_s=600, max_s=600)


def flow(*sinks: str, **route: Any) -> StreamFlow:
    """A flow that delivers numbers as they are, to files."""
    return (
        StreamFlow("trouble").decode(int).route(*(SinkRef("filesystem", name) for name in sinks or ("out",)), **route)
    )


def sink(name: str = "out", script: Any = (), max_batch: int = 1, **settings: Any) -> MemorySink:
    """A sink that takes one payload at a time, and is tried twice."""
    retry = settings.pop("retry", RetryConfig(attempts=2, initial_s=0.001, max_s=0.001))
    return MemorySink(
        name,
        kind="filesystem",
        script=script,
        settings=MemorySinkSettings(retry=retry, **settings),
        max_batch=max_batch,
    )


class Silent(MemorySink):
    """Never returns from its first write."""

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Wait for ever once."""
        if not self.writes:
            self._scripted.writes += 1
            await asyncio.Event().wait()
        await super().write_batch(batch)


def test_d36_while_a_sink_is_left_alone_its_payloads_are_dead_letters_and_offsets_move() -> None:
    """D-36: each payload is a letter, the sink is called for two batches of two attempts only, the other sink works."""
    config = DrakkarConfig(sinks={"circuit_breaker": {"failure_threshold": 2}})
    good, bad = sink("good"), sink("bad", [DOWN] * 99)
    outcome = run_flow(flow("good", "bad"), range(6), sinks=[good, bad], config=config)
    assert good.values == [0, 1, 2, 3, 4, 5]
    assert bad.writes == 4
    assert [letter.payload.data for letter in outcome.dead_letters] == [0, 1, 2, 3, 4, 5]
    assert [letter.attempts for letter in outcome.dead_letters] == [2, 2, 0, 0, 0, 0]
    assert all("circuit open" in letter.error for letter in outcome.dead_letters[2:])
    assert outcome.committed == {LANE: 6}
    assert [(e.sink_type, e.sink_name, e.state) for e in outcome.of(SinkCircuitChanged)] == [
        ("filesystem", "bad", "open")
    ]


@pytest.mark.parametrize(("policy", "committed", "letters"), [("dlq", 3, 3), ("skip", 3, 2), ("fail", 2, 2)])
def test_while_a_sink_is_left_alone_the_error_route_decides(policy: str, committed: int, letters: int) -> None:
    """The hook's letters are two; what was not tried goes where route(on_error=...) says, and `fail` stops the flow."""
    config = DrakkarConfig(sinks={"circuit_breaker": {"failure_threshold": 2}})
    subject = flow(on_error=policy, on_delivery_error=lambda _: DeliveryAction.DLQ)
    outcome = run_flow(subject, range(3), sinks=[sink(script=[DOWN] * 99)], config=config)
    assert outcome.committed == {LANE: committed}
    assert len(outcome.dead_letters) == letters
    assert ("circuit open" in (outcome.failure or "")) is (policy == "fail")


def test_a_sinks_own_circuit_breaker_outweighs_the_common_one() -> None:
    """It takes the rest from there."""
    config = DrakkarConfig(
        sinks={"circuit_breaker": {"failure_threshold": 9, "cooldown_seconds": 0, "when_open": "wait"}}
    )
    subject = sink(script=[DOWN] * 6, circuit_breaker={"failure_threshold": 1})
    outcome = run_flow(flow(), range(3), sinks=[subject], config=config)
    assert (outcome.values, outcome.dead_letters) == ([0, 1, 2], [])
    assert outcome.of(SinkCircuitChanged)[0].failures == 1


def test_deliveries_that_wait_stop_the_intake_and_nothing_else() -> None:
    """In flight is what the bound allows, no offset moves, and the other sink gets what was let in."""
    wait = {"failure_threshold": 1, "cooldown_seconds": 600, "when_open": "wait"}
    config = DrakkarConfig(sinks={"circuit_breaker": wait}, runtime={"max_in_flight_records": 3})
    good, bad = sink("good"), sink("bad", [DOWN] * 99)
    with FlowRun(flow("good", "bad"), range(9), sinks=[good, bad], config=config) as run:
        run.wait_until(lambda: len(good.values) == 3)
        run.wait_until(lambda: any(isinstance(event, SinkCircuitChanged) for event in run.events))
        assert (run.in_flight.records, run.reader.committed, run.dead_letters.letters) == (3, {}, [])


def test_a_write_that_never_returns_is_tried_again() -> None:
    """It is cancelled after delivery_timeout_s, and what was in it is written."""
    silent = Silent(
        kind="filesystem",
        settings=MemorySinkSettings(delivery_timeout_s=0.02, retry=RetryConfig(attempts=2, initial_s=0.001)),
    )
    outcome = run_flow(flow(), [1, 2], sinks=[silent])
    assert sorted(outcome.values) == [1, 2]
    (retried,) = outcome.of(DeliveryRetried)
    assert retried.error == "the write was not done within 0.02 s"
    assert outcome.committed == {LANE: 2}


def test_the_time_limit_of_all_sinks_holds_for_those_without_one_of_their_own() -> None:
    """sinks.delivery_timeout_seconds."""
    silent = Silent(kind="filesystem")
    outcome = run_flow(flow(), [1], sinks=[silent], config=DrakkarConfig(sinks={"delivery_timeout_seconds": 0.02}))
    assert outcome.values == [1]


def test_the_longest_pause_that_a_batch_was_asked_for_is_kept() -> None:
    """Also where only some of it failed, and where others failed without asking."""
    causes = {0: RetryAfter(0.01, "slow"), 1: RetryAfter(0.03, "slower"), 2: DOWN}
    outcome = run_flow(flow(), range(4), sinks=[sink(script=[BatchFailed(causes)], retry=PATIENT, max_batch=9)])
    assert [event.delay_s for event in outcome.of(DeliveryRetried)] == [0.03]
    assert sorted(outcome.values) == [0, 1, 2, 3]


def test_no_target_may_ask_for_a_pause_of_more_than_five_minutes() -> None:
    """Else one bad header stops a sink for days."""
    script = [BatchFailed({0: RetryAfter(1e9, "next century")})]
    with FlowRun(flow(), [1], sinks=[sink(script=script, retry=PATIENT)]) as run:
        (retried,) = run.wait_until(lambda: [event for event in run.events if isinstance(event, DeliveryRetried)])
        assert retried.delay_s == 300


def test_a_refused_payload_asks_for_no_pause() -> None:
    """Its cause says nothing about the others, which are tried again by the sink's back-off."""
    script = [BatchFailed({0: SinkRejected("no"), 1: DOWN})]
    outcome = run_flow(flow(), [1, 2], sinks=[sink(script=script, max_batch=9)])
    assert outcome.of(DeliveryRetried)[0].delay_s <= 0.001
    assert outcome.values == [2]


@pytest.mark.parametrize("wanted", [True, False])
def test_letters_in_memory_show_what_the_workers_letters_show(wanted: bool) -> None:
    """Secrets are masked, and what the target answered is there by dlq.include_server_detail."""
    error = SinkRejected("refused, with token=abc-123", detail="Key (id)=(7) exists")
    config = {"dlq": {"include_server_detail": wanted}, "app": {"password": "hunter2-vault"}}
    sink = MemorySink("out", script=[error])
    flow = StreamFlow("f").decode(str).route(KafkaSink("out", topic="out"))
    (letter,) = run_flow(flow, ["hunter2-vault"], sinks=[sink], config=config).dead_letters
    assert letter.error == "refused, with token=********"
    assert letter.detail == ("Key (id)=(7) exists" if wanted else "")
    assert letter.payload.data == "hunter2-vault"
