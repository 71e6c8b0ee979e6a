"""Delivery: retries, refusals, decisions, dead letters, and when an offset may move."""

from __future__ import annotations

import pytest

from drakkar_flow import DeliveryAction, DrakkarConfig, ExecutorTask, Handler, KafkaPayload, StreamFlow
from drakkar_flow.config.sinks import RetryConfig
from drakkar_flow.errors import BatchFailed, RetryAfter, SinkError, SinkNotConnected, SinkRejected
from drakkar_flow.graph.nodes import KafkaSink
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.observe.events import (
    DeadLetterFailed,
    DeadLettersWritten,
    DeliveriesFailed,
    DeliveriesSkipped,
    DeliveriesWritten,
    DeliveryRetried,
    HookRan,
    RecordsFinished,
)
from drakkar_flow.testing import FlowRun, MemoryDeadLetters, MemorySink, MemorySinkSettings, run_flow

LANE = ("input", 0)
DOWN = SinkError("down")


def flow(*sinks: str, **route) -> StreamFlow:
    """A flow that delivers numbers as they are."""
    return StreamFlow("deliver").decode(int).route(*map(KafkaSink, sinks or ("out",)), **route)


def ends(outcome):
    """How many records ended done, skipped, dead."""
    events = outcome.of(RecordsFinished)
    return tuple(sum(getattr(event, what) for event in events) for what in ("done", "skipped", "dead"))


@pytest.mark.parametrize("error", [DOWN, SinkNotConnected("gone"), OSError("refused"), BatchFailed({0: DOWN, 1: DOWN})])
def test_d34_a_sink_that_comes_back_gets_everything(error):
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
def test_d34_a_sink_that_stays_down_gives_one_dead_letter_for_each_payload(attempts):
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


def test_only_what_failed_in_a_batch_is_written_again():
    """BatchFailed names one of three: the other two are durable and acknowledged, that one is tried again."""
    seen = []

    def script(payloads):
        seen.append([payload.data for payload in payloads])
        if len(seen) == 1:
            raise BatchFailed({1: DOWN})

    outcome = run_flow(flow(), [1, 2, 3], sinks=[MemorySink(script=script)])
    assert seen == [[1, 2, 3], [2]]
    assert outcome.values == [1, 3, 2]
    assert [event.count for event in outcome.of(DeliveriesWritten)] == [2, 1]
    assert outcome.committed == {LANE: 3}


def test_an_offset_waits_for_the_part_of_its_batch_that_failed():
    """While one of three is tried again nothing at or above it is committed."""
    sink = MemorySink(script=[BatchFailed({1: RetryAfter(0.0, "later")})])
    with FlowRun(flow(), [1, 2, 3], sinks=[sink], open_end=True) as run:
        run.wait_until(lambda: run.reader.committed == {LANE: 3})
        assert [mark.offset for mark in run.reader.commits][0] in (1, 3)


@pytest.mark.parametrize("whole", [True, False], ids=["whole-batch", "some"])
def test_what_a_sink_refuses_is_a_dead_letter_at_once(whole):
    """SinkRejected is not tried again, alone or named in a BatchFailed."""
    refused = SinkRejected("too large")

    def script(payloads):
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


def test_refused_and_failed_payloads_of_one_batch_go_their_own_ways():
    """One refused, one failed, one written: the failed one is tried again, the refused one never."""
    calls = []

    def script(payloads):
        calls.append([payload.data for payload in payloads])
        if len(calls) == 1:
            raise BatchFailed({0: SinkRejected("no"), 2: DOWN})

    outcome = run_flow(flow(), [1, 2, 3], sinks=[MemorySink(script=script)])
    assert calls == [[1, 2, 3], [3]]
    assert [letter.payload.data for letter in outcome.dead_letters] == [1]
    assert outcome.committed == {LANE: 3}


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_a_batch_failure_that_names_what_was_not_there_counts_for_the_whole_batch(index):
    """Nothing a sink says can lose or double an acknowledgement."""
    sink = MemorySink(script=[BatchFailed({0: DOWN, index: DOWN})])
    outcome = run_flow(flow(), [1, 2], sinks=[sink])
    assert sink.writes == 2
    assert sorted(set(outcome.values)) == [1, 2]
    assert outcome.committed == {LANE: 2}


def test_retry_after_sets_the_pause():
    """The target's own word on the pause is taken instead of the back-off."""
    settings = MemorySinkSettings(retry=RetryConfig(attempts=3, initial_s=600, max_s=600))
    sink = MemorySink(script=[RetryAfter(0.02, "slow down")], settings=settings)
    outcome = run_flow(flow(), [1], sinks=[sink])
    (retried,) = outcome.of(DeliveryRetried)
    assert retried.delay_s == 0.02
    assert "slow down" in retried.error
    assert outcome.values == [1]


def test_pauses_between_attempts_grow_within_the_sinks_back_off():
    """Each pause stays below its ceiling, which doubles up to max_s."""
    settings = MemorySinkSettings(retry=RetryConfig(attempts=6, initial_s=0.001, max_s=0.004))
    outcome = run_flow(flow(), [1], sinks=[MemorySink(script=[DOWN] * 5, settings=settings)])
    delays = [event.delay_s for event in outcome.of(DeliveryRetried)]
    assert len(delays) == 5
    assert all(
        0 <= delay <= ceiling for delay, ceiling in zip(delays, [0.001, 0.002, 0.004, 0.004, 0.004], strict=True)
    )


# --- on_delivery_error --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["dlq", "skip", "fail"])
@pytest.mark.parametrize("is_text", [True, False], ids=["text", "action"])
def test_on_delivery_error_may_send_to_the_dead_letters(policy, is_text):
    """DLQ is asked for once after the last attempt and holds whatever the error route says."""
    seen = []

    async def decide(error):
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
def test_without_a_hook_the_error_route_decides_about_undeliverable_payloads(policy, committed, letters, ended):
    """route(on_error=...) is the answer where on_delivery_error is none."""
    outcome = run_flow(flow(on_error=policy), [1], sinks=[MemorySink(script=[DOWN] * 9)])
    assert outcome.committed.get(LANE, 0) == committed
    assert len(outcome.dead_letters) == letters
    assert ends(outcome) == ended
    assert bool(outcome.failure) is (policy == "fail")


def test_on_delivery_error_may_start_over():
    """RETRY gives the batch as many attempts again, as often as it is asked for."""
    asked = []

    async def decide(error):
        asked.append(len(error.payloads))
        return DeliveryAction.RETRY

    sink = MemorySink(script=[DOWN] * 7)
    outcome = run_flow(flow(on_delivery_error=decide), [1, 2], sinks=[sink])
    assert asked == [2, 2]
    assert sink.writes == 8
    assert outcome.values == [1, 2]
    assert outcome.dead_letters == []
    assert outcome.committed == {LANE: 2}


def test_on_delivery_error_may_drop_payloads():
    """SKIP is counted, nothing is written anywhere, and the offset moves on."""

    async def decide(error):
        return DeliveryAction.SKIP

    outcome = run_flow(flow(on_delivery_error=decide), [1, 2], sinks=[MemorySink(script=[DOWN] * 3)])
    assert (outcome.values, outcome.dead_letters, outcome.committed) == ([], [], {LANE: 2})
    assert [(e.sink_type, e.sink_name, e.count) for e in outcome.of(DeliveriesSkipped)] == [("kafka", "out", 2)]
    assert ends(outcome) == (0, 2, 0)


@pytest.mark.parametrize(("answer", "letters"), [("retry", 1), ("skip", 0), ("dlq", 1)])
def test_a_refused_payload_can_be_dropped_but_not_tried_again(answer, letters):
    """RETRY of what the target refused for good is a dead letter."""

    async def decide(error):
        return answer

    sink = MemorySink(script=[SinkRejected("no")])
    outcome = run_flow(flow(on_delivery_error=decide), [1], sinks=[sink])
    assert sink.writes == 1
    assert len(outcome.dead_letters) == letters
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize("answer", [RuntimeError("hook broke"), "perhaps", None], ids=["raises", "unknown", "none"])
def test_an_on_delivery_error_that_can_not_answer_sends_to_the_dead_letters(answer):
    """No payload is lost to a broken hook; that it broke is told."""

    async def decide(error):
        if isinstance(answer, Exception):
            raise answer
        return answer

    outcome = run_flow(flow(on_delivery_error=decide), [1], sinks=[MemorySink(script=[DOWN] * 3)])
    assert [letter.payload.data for letter in outcome.dead_letters] == [1]
    (ran,) = [event for event in outcome.of(HookRan) if event.hook == "on_delivery_error"]
    assert ran.error.startswith("on_delivery_error: ")
    assert outcome.committed == {LANE: 1}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_handlers_on_delivery_error_is_asked(is_async):
    """from_handler passes the hook on, a plain method as well as an async one."""

    class Skipping(Handler[int, int]):
        async def arrange(self, messages, pending):
            return [ExecutorTask(task_id="t", source_offsets=[0])]

        async def on_task_complete(self, result):
            return KafkaPayload(data=1)

        def on_delivery_error(self, error):
            async def later():
                return DeliveryAction.SKIP

            return later() if is_async else DeliveryAction.SKIP

    outcome = run_flow(Skipping(), [1], sinks=[MemorySink(script=[DOWN] * 3)])
    assert [event.count for event in outcome.of(DeliveriesSkipped)] == [1]
    assert outcome.committed == {LANE: 1}


# --- several sinks, and the offset ----------------------------------------------------------------------


def test_d33_a_sink_that_fails_leaves_the_other_alone():
    """D-33: one sink writes once, the other goes through on_delivery_error only."""
    seen = []

    async def decide(error):
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


def test_nothing_is_committed_before_the_slowest_sink_has_written():
    """Blocked: nothing. Released: everything."""
    fast, slow = MemorySink("fast"), MemorySink("slow")
    slow.gate.shut()
    with FlowRun(flow("fast", "slow"), range(5), sinks=[fast, slow]) as run:
        run.wait_until(lambda: len(fast.values) == 5 and slow.gate.waiting)
        assert (run.reader.commits, run.flight.records) == ([], 5)
        slow.gate.open()
        outcome = run.finish()
        assert run.flight.statistics()[:3] == (0, 0, {})
    assert outcome.committed == {LANE: 5}


def test_other_partitions_go_on_while_one_waits():
    """A payload that is stuck holds back its own partition only."""

    def script(payloads):
        for payload in payloads:
            if payload.data == 0 and not released:
                raise SinkError("not yet")

    released = []

    async def again(error):
        return DeliveryAction.RETRY

    sink = MemorySink(script=script, max_batch=1, max_in_flight=2)
    with FlowRun(flow(on_delivery_error=again), range(8), partitions=2, sinks=[sink]) as run:
        run.wait_until(lambda: run.reader.committed == {("input", 1): 4})
        assert sorted(sink.values) == list(range(1, 8))
        released.append(True)
        outcome = run.finish()
    assert outcome.committed == {("input", 0): 4, ("input", 1): 4}


def test_payloads_keep_their_order_when_one_write_at_a_time_is_allowed():
    """With max_in_flight 1 even a batch that was tried again is not overtaken."""
    sink = MemorySink(script=[DOWN, None, DOWN, DOWN, None], max_batch=2)
    outcome = run_flow(flow(), range(9), sinks=[sink])
    assert outcome.values == list(range(9))


def test_a_sink_gets_batches_of_at_most_its_size_and_no_more_writes_at_once_than_it_allows():
    """max_batch and max_in_flight are kept."""
    sizes = []
    sink = MemorySink(script=lambda payloads: sizes.append(len(payloads)), max_batch=3, max_in_flight=2)
    sink.gate.shut()
    with FlowRun(flow(), range(10), sinks=[sink]) as run:
        run.wait_until(lambda: run.flight.records == 10 and sink.gate.waiting == 2)
        assert sink.writes == 2
        sink.gate.open()
        run.finish()
    assert sorted(sizes) == [1, 3, 3, 3]


def test_thousands_of_batches_that_need_no_waiting_go_through():
    """Writes that end at once need no stack."""
    outcome = run_flow(flow(), range(3000), sinks=[MemorySink(max_batch=1)])
    assert outcome.values == list(range(3000))
    assert outcome.committed == {LANE: 3000}


# --- dead letters ---------------------------------------------------------------------------------------


def test_a_dead_letter_topic_that_is_down_keeps_offsets_and_goes_on_when_it_is_back():
    """Stalled, visibly: letters are tried again until they are written; then the offset moves."""
    broken = [True]

    def script(failures):
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


def test_dead_letters_may_be_given_up():
    """dlq.on_failure=drop tries once, tells, and moves on."""
    letters = MemoryDeadLetters([OSError("no broker")])
    outcome = run_flow(flow(), ["x", 1], dead_letters=letters, config=DrakkarConfig(dlq={"on_failure": "drop"}))
    assert (letters.writes, letters.letters) == (1, [])
    assert outcome.committed == {LANE: 2}
    assert [event.dropped for event in outcome.of(DeadLetterFailed)] == [True]
    assert outcome.of(DeadLettersWritten) == []
    assert ends(outcome) == (1, 0, 1)


def test_a_dead_letters_offset_waits_for_its_letter():
    """While the letter is on its way nothing is committed."""
    letters = MemoryDeadLetters()
    letters.gate.shut()
    with FlowRun(flow(), ["x", 1], dead_letters=letters) as run:
        run.wait_until(lambda: letters.gate.waiting and run.sink().values == [1])
        assert run.reader.committed == {}
        letters.gate.open()
        assert run.finish().committed == {LANE: 2}


def test_many_dead_letters_are_written_in_batches_of_bounded_size_one_at_a_time():
    """2,000 letters: in order, at most 500 at once, each once."""
    sizes = []
    letters = MemoryDeadLetters(lambda failures: sizes.append(len(failures)))
    outcome = run_flow(flow(), ["x"] * 2000, dead_letters=letters)
    assert [letter.holds[0][0].offset for letter in outcome.dead_letters] == list(range(2000))
    assert max(sizes) <= 500
    assert outcome.committed == {LANE: 2000}


def test_a_payload_with_its_own_sink_keeps_its_fields():
    """What a flow made is what the sink gets."""
    payload = KafkaPayload(data={"a": 1}, key=b"k", headers=[("h", b"v")], partition=3, timestamp=5)
    outcome = run_flow(StreamFlow("own").map(lambda _: payload).route(), [1])
    assert outcome.deliveries == {"kafka-out": [payload]}
