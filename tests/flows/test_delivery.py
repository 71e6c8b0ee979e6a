"""Delivery: retries, refusals, and decisions about what could not be written."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import DeliveryAction, ExecutorTask, Handler, KafkaPayload, PendingContext, StreamFlow
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.errors import BatchFailed, RetryAfter, SinkError, SinkNotConnected, SinkRejected
from drakkar_flow.graph.nodes import KafkaSink
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.sinks import DeliveriesFailed, DeliveriesSkipped, DeliveriesWritten, DeliveryRetried
from drakkar_flow.testing import FlowHarness, FlowRun, MemorySink, MemorySinkSettings, run_flow
from support.handlers import LANE, ends

DOWN = SinkError("down")


def flow(*sinks: str, **route: Any) -> StreamFlow:
    """A flow that delivers numbers as they are."""
    return StreamFlow("deliver").decode(int).route(*map(KafkaSink, sinks or ("out",)), **route)


@pytest.mark.parametrize("error", [DOWN, SinkNotConnected("gone"), OSError("refused"), BatchFailed({0: DOWN, 1: DOWN})])
def test_d34_a_sink_that_comes_back_gets_everything(
    error: OSError | BatchFailed | SinkError | SinkNotConnected,
) -> None:
    """D-34: it fails twice and then works: three writes, two retries told, nothing lost."""
    sink = MemorySink(script=[error, error])
    outcome = run_flow(flow(), [1, 2], sinks=[sink])
    assert (sink.writes, outcome.values) == (3, [1, 2])
    assert [(e.attempt, e.count, e.error) for e in outcome.of(DeliveryRetried)] == [
        (1, 2, str(error)),
        (2, 2, str(error)),
    ]
    assert [(e.sink_type, e.sink_name, e.count) for e in outcome.of(DeliveriesWritten)] == [("kafka", "out", 2)]
    assert outcome.committed == {LANE: 2}
    assert outcome.dead_letters == []


@pytest.mark.parametrize("attempts", [1, 3])
def test_d34_a_sink_that_stays_down_gives_one_dead_letter_for_each_payload(attempts: int) -> None:
    """D-34: after the last attempt each payload is one dead letter that says where and how often it was tried."""
    sink = MemorySink(
        script=[DOWN] * 99,
        settings=MemorySinkSettings(retry=RetryConfig(attempts=attempts, initial_s=0.001, max_s=0.001)),
    )
    outcome = run_flow(flow(), [1, 2], sinks=[sink])
    assert sink.writes == attempts
    assert [(letter.payload.data, letter.attempts) for letter in outcome.dead_letters] == [(1, attempts), (2, attempts)]
    for letter in outcome.dead_letters:
        assert (letter.kind, letter.stage, letter.error) == (FailureKind.SINK, "sink-kafka-out", "down")
        assert (letter.sink_type, letter.sink_name) == ("kafka", "out")
        assert letter.exception_class == "drakkar_flow.errors.SinkError"
    assert [(e.count, e.error) for e in outcome.of(DeliveriesFailed)] == [(2, "down")]
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (0, 0, 2)


def test_only_what_failed_in_a_batch_is_written_again() -> None:
    """BatchFailed names one of three: the other two are durable and acknowledged, that one is tried again."""
    seen = []

    def script(payloads: list[KafkaPayload]) -> None:
        seen.append([payload.data for payload in payloads])
        if len(seen) == 1:
            raise BatchFailed({1: DOWN})

    outcome = run_flow(flow(), [1, 2, 3], sinks=[MemorySink(script=script)])
    assert seen == [[1, 2, 3], [2]]
    assert outcome.values == [1, 3, 2]
    assert [event.count for event in outcome.of(DeliveriesWritten)] == [2, 1]
    assert outcome.committed == {LANE: 3}


def test_an_offset_waits_for_the_part_of_its_batch_that_failed() -> None:
    """While the second of three is tried again the first is committed and nothing beyond it."""
    calls = []

    def script(payloads: list[KafkaPayload]) -> None:
        calls.append(len(payloads))
        if len(calls) == 1:
            sink.gate.shut()
            raise BatchFailed({1: DOWN})

    sink = MemorySink(script=script)
    with FlowRun(flow(), [1, 2, 3], sinks=[sink]) as run:
        run.wait_until(lambda: run.reader.committed and sink.gate.waiting)
        assert run.reader.committed == {LANE: 1}
        assert run.in_flight.records == 1
        sink.gate.open()
        assert run.finish().committed == {LANE: 3}
    assert calls == [3, 1]


@pytest.mark.parametrize("whole", [True, False], ids=["whole-batch", "some"])
def test_what_a_sink_refuses_is_a_dead_letter_at_once(whole: bool) -> None:
    """SinkRejected is not tried again, alone or named in a BatchFailed."""
    refused = SinkRejected("too large")

    def script(payloads: list[KafkaPayload]) -> None:
        if whole:
            raise refused
        bad = {i: refused for i, payload in enumerate(payloads) if payload.data == 2}
        if bad:
            raise BatchFailed(bad)

    sink = MemorySink(script=script)
    outcome = run_flow(flow(), [1, 2, 3], sinks=[sink])
    assert sink.writes == 1
    assert outcome.values == ([] if whole else [1, 3])
    assert [letter.payload.data for letter in outcome.dead_letters] == ([1, 2, 3] if whole else [2])
    assert {letter.error for letter in outcome.dead_letters} == {"too large"}
    assert {letter.attempts for letter in outcome.dead_letters} == {1}
    assert outcome.of(DeliveryRetried) == []
    assert outcome.committed == {LANE: 3}


def test_refused_and_failed_payloads_of_one_batch_go_their_own_ways() -> None:
    """One refused, one failed, one written: the failed one is tried again, the refused one never."""
    calls = []

    def script(payloads: list[KafkaPayload]) -> None:
        calls.append([payload.data for payload in payloads])
        if len(calls) == 1:
            raise BatchFailed({0: SinkRejected("no"), 2: DOWN})

    outcome = run_flow(flow(), [1, 2, 3], sinks=[MemorySink(script=script)])
    assert calls == [[1, 2, 3], [3]]
    assert [letter.payload.data for letter in outcome.dead_letters] == [1]
    assert outcome.committed == {LANE: 3}


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_a_batch_failure_that_names_what_was_not_there_counts_for_the_whole_batch(index: int) -> None:
    """Nothing a sink says can lose or double an acknowledgement."""
    sink = MemorySink(script=[BatchFailed({0: DOWN, index: DOWN})])
    outcome = run_flow(flow(), [1, 2], sinks=[sink])
    assert sink.writes == 2
    assert sorted(set(outcome.values)) == [1, 2]
    assert outcome.committed == {LANE: 2}


def test_retry_after_sets_the_pause() -> None:
    """The target's own word on the pause is taken instead of the back-off."""
    settings = MemorySinkSettings(retry=RetryConfig(attempts=3, initial_s=600, max_s=600))
    sink = MemorySink(script=[RetryAfter(0.02, "slow down")], settings=settings)
    outcome = run_flow(flow(), [1], sinks=[sink])
    (retried,) = outcome.of(DeliveryRetried)
    assert retried.delay_s == 0.02
    assert "slow down" in retried.error
    assert outcome.values == [1]


def test_pauses_between_attempts_grow_within_the_sinks_back_off() -> None:
    """Each pause stays below its ceiling, which doubles up to max_s."""
    settings = MemorySinkSettings(retry=RetryConfig(attempts=6, initial_s=0.001, max_s=0.004))
    outcome = run_flow(flow(), [1], sinks=[MemorySink(script=[DOWN] * 5, settings=settings)])
    delays = [event.delay_s for event in outcome.of(DeliveryRetried)]
    assert len(delays) == 5
    assert all(
        0 <= delay <= ceiling for delay, ceiling in zip(delays, [0.001, 0.002, 0.004, 0.004, 0.004], strict=True)
    )


@pytest.mark.parametrize("policy", ["dlq", "skip", "fail"])
@pytest.mark.parametrize("is_text", [True, False], ids=["text", "action"])
def test_on_delivery_error_may_send_to_the_dead_letters(policy: str, is_text: bool) -> None:
    """DLQ is asked for once after the last attempt and holds whatever the error route says."""
    seen = []

    async def decide(error: DeliveryError) -> DeliveryAction | str:
        seen.append(error)
        return "dlq" if is_text else DeliveryAction.DLQ

    sink = MemorySink(script=[DOWN] * 9)
    outcome = run_flow(flow(on_error=policy, on_delivery_error=decide), [1, 2], sinks=[sink])
    (error,) = seen
    assert (error.sink_type, error.sink_name, error.error) == ("kafka", "out", "down")
    assert [payload.data for payload in error.payloads] == [1, 2]
    assert [letter.payload.data for letter in outcome.dead_letters] == [1, 2]
    assert outcome.committed == {LANE: 2}
    assert outcome.failure is None


@pytest.mark.parametrize(
    ("policy", "committed", "letters", "ended"),
    [("dlq", 1, 1, (0, 0, 1)), ("skip", 1, 0, (0, 1, 0)), ("fail", 0, 0, (0, 0, 0))],
)
def test_without_a_hook_the_error_route_decides_about_undeliverable_payloads(
    policy: str, committed: int, letters: int, ended: tuple[int, int, int]
) -> None:
    """route(on_error=...) is the answer where on_delivery_error is none."""
    outcome = run_flow(flow(on_error=policy), [1], sinks=[MemorySink(script=[DOWN] * 9)])
    assert outcome.committed.get(LANE, 0) == committed
    assert len(outcome.dead_letters) == letters
    assert ends(outcome) == ended
    assert bool(outcome.failure) is (policy == "fail")


def test_on_delivery_error_may_start_over() -> None:
    """RETRY gives the batch as many attempts again, as often as it is asked for."""
    asked = []

    async def decide(error: DeliveryError) -> DeliveryAction:
        asked.append(len(error.payloads))
        return DeliveryAction.RETRY

    sink = MemorySink(script=[DOWN] * 7)
    outcome = run_flow(flow(on_delivery_error=decide), [1, 2], sinks=[sink])
    assert asked == [2, 2]
    assert sink.writes == 8
    assert outcome.values == [1, 2]
    assert outcome.dead_letters == []
    assert outcome.committed == {LANE: 2}


def retrying(error: DeliveryError) -> DeliveryAction:
    """An `on_delivery_error` that never gives up."""
    return DeliveryAction.RETRY


def sink_with(writes: int, **retry: Any) -> MemorySink:
    """A sink that is down for so many writes, with two attempts for a batch."""
    settings = MemorySinkSettings(retry={"attempts": 2, **retry})
    return MemorySink(script=[DOWN] * writes, settings=settings)


def test_pauses_keep_growing_while_on_delivery_error_retries() -> None:
    """A long outage is not met with the pauses of its first second, again and again."""
    sink = sink_with(40, initial_s=0.5, max_s=30)
    with FlowHarness(flow(on_delivery_error=retrying), sinks=[sink]) as kit:
        kit.send(1)
        kit.wait_acknowledged()
        retried = kit.of(DeliveryRetried)
    assert [event.attempt for event in retried] == list(range(1, 41))
    ceilings = [min(0.5 * 2**n, 30.0) for n in range(40)]
    assert all(event.delay_s <= ceiling for event, ceiling in zip(retried, ceilings, strict=True))
    assert max(event.delay_s for event in retried) > 15  # of 34 pauses between 0 and 30 s


@pytest.mark.parametrize(
    ("bound", "writes", "spent"),
    [({"max_rounds": 3}, 8, "after 3 retries"), ({"max_elapsed_s": 60, "initial_s": 30, "max_s": 30}, None, "after ")],
)
def test_a_bound_on_retry_ends_in_the_dead_letters(bound: dict[str, int], writes: int | None, spent: str) -> None:
    """As if the hook had said DLQ: nothing is lost, the offset moves on, and it is told why."""
    sink = sink_with(1000, **bound)
    with FlowHarness(flow(on_delivery_error=retrying), sinks=[sink]) as kit:
        kit.send(1)
        kit.wait_acknowledged()
        outcome, waited_s = kit.outcome(), kit.clock.now
    (letter,) = outcome.dead_letters
    assert (letter.payload.data, letter.attempts, letter.to_dlq) == (1, sink.writes, True)
    assert letter.error == "down"
    (failed,) = outcome.of(DeliveriesFailed)
    assert failed.error.startswith(f"down; RETRY of on_delivery_error is bounded, and given up {spent}")
    assert outcome.committed == {LANE: 1}
    assert (sink.writes == writes) if writes else waited_s >= 60


def test_on_delivery_error_may_drop_payloads() -> None:
    """SKIP is counted, nothing is written anywhere, and the offset moves on."""

    async def decide(error: DeliveryError) -> DeliveryAction:
        return DeliveryAction.SKIP

    outcome = run_flow(flow(on_delivery_error=decide), [1, 2], sinks=[MemorySink(script=[DOWN] * 3)])
    assert (outcome.values, outcome.dead_letters, outcome.committed) == ([], [], {LANE: 2})
    assert [(e.sink_type, e.sink_name, e.count) for e in outcome.of(DeliveriesSkipped)] == [("kafka", "out", 2)]
    assert ends(outcome) == (0, 2, 0)


@pytest.mark.parametrize(("answer", "letters"), [("retry", 1), ("skip", 0), ("dlq", 1)])
def test_a_refused_payload_can_be_dropped_but_not_tried_again(answer: str, letters: int) -> None:
    """RETRY of what the target refused for good is a dead letter."""

    async def decide(error: DeliveryError) -> str:
        return answer

    sink = MemorySink(script=[SinkRejected("no")])
    outcome = run_flow(flow(on_delivery_error=decide), [1], sinks=[sink])
    assert sink.writes == 1
    assert len(outcome.dead_letters) == letters
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize("answer", [RuntimeError("hook broke"), "perhaps", None], ids=["raises", "unknown", "none"])
def test_an_on_delivery_error_that_can_not_answer_sends_to_the_dead_letters(answer: RuntimeError | str | None) -> None:
    """No payload is lost to a broken hook; that it broke is told."""

    async def decide(error: DeliveryError) -> str | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    outcome = run_flow(flow(on_delivery_error=decide), [1], sinks=[MemorySink(script=[DOWN] * 3)])
    assert [letter.payload.data for letter in outcome.dead_letters] == [1]
    (ran,) = [event for event in outcome.of(HookRan) if event.hook == "on_delivery_error"]
    assert ran.error.startswith("on_delivery_error: ")
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_handlers_on_delivery_error_is_asked(is_async: bool) -> None:
    """from_handler passes the hook on, a plain method as well as an async one."""

    class Skipping(Handler[int, int]):
        async def arrange(self, messages: list[Record[int]], pending: PendingContext) -> list[ExecutorTask]:
            return [ExecutorTask(task_id="t", source_offsets=[0])]

        async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
            return KafkaPayload(data=1)

        def on_delivery_error(self, error: DeliveryError) -> Any:
            async def later() -> DeliveryAction:
                return DeliveryAction.SKIP

            return later() if is_async else DeliveryAction.SKIP

    outcome = run_flow(Skipping(), [1], sinks=[MemorySink(script=[DOWN] * 3)])
    assert [event.count for event in outcome.of(DeliveriesSkipped)] == [1]
    assert outcome.committed == {LANE: 1}
