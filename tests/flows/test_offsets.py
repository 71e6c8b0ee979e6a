"""Offsets: several sinks, batches and dead letters, and when an offset may move."""

from __future__ import annotations

from typing import Any

from drakkar_flow import DeliveryAction, DeliveryError, DrakkarConfig, KafkaPayload, StreamFlow
from drakkar_flow.errors import SinkError
from drakkar_flow.graph.nodes import KafkaSink
from drakkar_flow.model.outcome import Failure
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeadLettersWritten
from drakkar_flow.testing import FlowRun, MemoryDeadLetters, MemorySink, run_flow
from support.handlers import LANE, ends

DOWN = SinkError("down")


def flow(*sinks: str, **route: Any) -> StreamFlow:
    """A flow that delivers numbers as they are."""
    return StreamFlow("deliver").decode(int).route(*map(KafkaSink, sinks or ("out",)), **route)


def test_d33_a_sink_that_fails_leaves_the_other_alone() -> None:
    """D-33: one sink writes once, the other goes through on_delivery_error only."""
    seen = []

    async def decide(error: DeliveryError) -> DeliveryAction:
        seen.append(error.sink_name)
        return DeliveryAction.DLQ

    good, bad = MemorySink("good"), MemorySink("bad", script=[DOWN] * 9)
    outcome = run_flow(flow("good", "bad", on_delivery_error=decide), [1, 2], sinks=[good, bad])
    assert good.values == [1, 2]
    assert good.writes == 1
    assert seen == ["bad"]
    assert [(letter.sink_name, letter.payload.data) for letter in outcome.dead_letters] == [("bad", 1), ("bad", 2)]
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (0, 0, 2)


def test_nothing_is_committed_before_the_slowest_sink_has_written() -> None:
    """Blocked: nothing. Released: everything."""
    fast, slow = MemorySink("fast"), MemorySink("slow")
    slow.gate.shut()
    with FlowRun(flow("fast", "slow"), range(5), sinks=[fast, slow]) as run:
        run.wait_until(lambda: len(fast.values) == 5 and slow.gate.waiting)
        assert (run.reader.commits, run.in_flight.records) == ([], 5)
        slow.gate.open()
        outcome = run.finish()
        assert run.in_flight.statistics()[:3] == (0, 0, {})
    assert outcome.committed == {LANE: 5}


def test_other_partitions_go_on_while_one_waits() -> None:
    """A payload that is stuck holds back its own partition only."""

    def script(payloads: list[KafkaPayload]) -> None:
        for payload in payloads:
            if payload.data == 0 and not released:
                raise SinkError("not yet")

    released = []

    async def again(error: DeliveryError) -> DeliveryAction:
        return DeliveryAction.RETRY

    sink = MemorySink(script=script, max_batch=1, max_in_flight=2)
    with FlowRun(flow(on_delivery_error=again), range(8), partitions=2, sinks=[sink]) as run:
        run.wait_until(lambda: run.reader.committed == {("input", 1): 4})
        assert sorted(sink.values) == list(range(1, 8))
        released.append(True)
        outcome = run.finish()
    assert outcome.committed == {("input", 0): 4, ("input", 1): 4}


def test_payloads_keep_their_order_when_one_write_at_a_time_is_allowed() -> None:
    """With max_in_flight 1 even a batch that was tried again is not overtaken."""
    sink = MemorySink(script=[DOWN, None, DOWN, DOWN, None], max_batch=2)
    outcome = run_flow(flow(), range(9), sinks=[sink])
    assert outcome.values == list(range(9))


def test_a_sink_gets_batches_of_at_most_its_size_and_no_more_writes_at_once_than_it_allows() -> None:
    """max_batch and max_in_flight are kept."""
    sizes = []
    sink = MemorySink(script=lambda payloads: sizes.append(len(payloads)), max_batch=3, max_in_flight=2)
    sink.gate.shut()
    with FlowRun(flow(), range(10), sinks=[sink]) as run:
        run.wait_until(lambda: run.in_flight.records == 10 and sink.gate.waiting == 2)
        assert sink.writes == 2
        sink.gate.open()
        run.finish()
    assert sorted(sizes) == [1, 3, 3, 3]


def test_thousands_of_batches_that_need_no_waiting_go_through() -> None:
    """Writes that end at once need no stack."""
    outcome = run_flow(flow(), range(3000), sinks=[MemorySink(max_batch=1)])
    assert outcome.values == list(range(3000))
    assert outcome.committed == {LANE: 3000}


def test_a_dead_letter_topic_that_is_down_keeps_offsets_and_goes_on_when_it_is_back() -> None:
    """Stalled, visibly: letters are tried again until they are written; then the offset moves."""
    broken = [True]

    def script(failures: list[Failure]) -> None:
        if broken:
            raise OSError("no broker")

    letters = MemoryDeadLetters(script)
    with FlowRun(flow(), ["x", 1], dead_letters=letters) as run:
        run.wait_until(lambda: letters.writes >= 3)
        assert run.sink().values == [1]
        assert run.reader.committed == {}
        broken.clear()
        outcome = run.finish()
    assert len(outcome.dead_letters) == 1
    assert outcome.committed == {LANE: 2}
    assert len(outcome.of(DeadLetterFailed)) == letters.writes - 1
    assert {(e.count, e.error, e.dropped) for e in outcome.of(DeadLetterFailed)} == {(1, "no broker", False)}
    assert [event.count for event in outcome.of(DeadLettersWritten)] == [1]


def test_dead_letters_may_be_given_up() -> None:
    """dlq.on_failure=drop tries once, tells, and moves on."""
    letters = MemoryDeadLetters([OSError("no broker")])
    outcome = run_flow(flow(), ["x", 1], dead_letters=letters, config=DrakkarConfig(dlq={"on_failure": "drop"}))
    assert (letters.writes, letters.letters) == (1, [])
    assert outcome.committed == {LANE: 2}
    assert [event.dropped for event in outcome.of(DeadLetterFailed)] == [True]
    assert outcome.of(DeadLettersWritten) == []
    assert ends(outcome) == (1, 0, 1)


def test_a_dead_letters_offset_waits_for_its_letter() -> None:
    """While the letter is on its way nothing is committed."""
    letters = MemoryDeadLetters()
    letters.gate.shut()
    with FlowRun(flow(), ["x", 1], dead_letters=letters) as run:
        run.wait_until(lambda: letters.gate.waiting and run.sink().values == [1])
        assert run.reader.committed == {}
        letters.gate.open()
        assert run.finish().committed == {LANE: 2}


def test_many_dead_letters_are_written_in_batches_of_bounded_size_one_at_a_time() -> None:
    """2,000 letters: in order, at most 500 at once, each once."""
    sizes = []
    letters = MemoryDeadLetters(lambda failures: sizes.append(len(failures)))
    no_brake = DrakkarConfig(dlq={"stop_after": 0})
    outcome = run_flow(flow(), ["x"] * 2000, dead_letters=letters, config=no_brake)
    assert [letter.tokens[0][0].offset for letter in outcome.dead_letters] == list(range(2000))
    assert max(sizes) <= 500
    assert outcome.committed == {LANE: 2000}


def test_a_payload_with_its_own_sink_keeps_its_fields() -> None:
    """What a flow made is what the sink gets."""
    payload = KafkaPayload(data={"a": 1}, key=b"k", headers=[("h", b"v")], partition=3, timestamp=5)
    outcome = run_flow(StreamFlow("own").map(lambda _: payload).route(), [1])
    assert outcome.deliveries == {"kafka-out": [payload]}
