"""The steps between decode and route: what happens to payloads, failures and offsets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import DrakkarConfig, PendingContext, Record, StreamFlow
from drakkar_flow.graph.nodes import ErrorPolicy
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.testing import FlowRun, run_flow
from support.handlers import LANE, PerRecord, ends


class Point(BaseModel):
    """A model to decode to."""

    x: int


def numbers(name: str = "numbers") -> StreamFlow:
    """A flow that reads ints."""
    return StreamFlow(name).decode(int)


def test_decoding_to_a_model_gives_the_model_to_the_next_step() -> None:
    """A decoded record's payload is an instance of the target."""
    flow = StreamFlow("points").decode(Point).map(lambda point: (type(point).__name__, point.x)).route()
    assert run_flow(flow, [{"x": 1}, {"x": 2}]).values == [("Point", 1), ("Point", 2)]


def test_a_flow_without_decode_has_empty_payloads_and_the_bytes_in_the_record() -> None:
    """Without decode the payload is None and the record's value is there."""
    flow = StreamFlow("raw").map(lambda payload, record: (payload, record.value), with_record=True).route()
    assert run_flow(flow, [b"\xff"]).values == [(None, b"\xff")]


def test_undecodable_records_become_dead_letters_and_the_others_go_on_in_order() -> None:
    """Dead letters are the default for what can't be decoded, wherever it stands in a batch."""
    outcome = run_flow(numbers().route(), [1, "x", 2, "y", 3])
    assert outcome.values == [1, 2, 3]
    assert [letter.tokens[0][0].value for letter in outcome.dead_letters] == [b"x", b"y"]
    assert {letter.kind for letter in outcome.dead_letters} == {FailureKind.DECODE}
    assert {letter.stage for letter in outcome.dead_letters} == {"decode"}
    assert "input:0:1" in outcome.dead_letters[0].error
    assert "\n" not in outcome.dead_letters[0].error
    assert "was the direct cause of" in outcome.dead_letters[0].stacktrace
    assert outcome.dead_letters[0].exception_class == "drakkar_flow.errors.DecodeError"
    assert outcome.committed == {LANE: 5}
    assert ends(outcome) == (3, 0, 2)


@pytest.mark.parametrize("where", ["flow", "configuration"])
def test_undecodable_records_are_skipped_where_the_flow_or_the_configuration_says_so(where: str) -> None:
    """Skipped records are counted, their offsets move on, and nothing is written."""
    policy: ErrorPolicy | None = "skip" if where == "flow" else None
    config = DrakkarConfig(runtime={"on_decode_error": "skip"}) if where == "configuration" else None
    outcome = run_flow(StreamFlow("skip").decode(int, on_error=policy).route(), ["x", 1], config=config)
    assert (outcome.values, outcome.dead_letters, outcome.committed) == ([1], [], {LANE: 2})
    assert ends(outcome) == (1, 1, 0)
    assert [(event.kind, event.count, event.label) for event in outcome.of(RecordsFailed)] == [
        ("decode", 1, "input:0:0")
    ]


def test_undecodable_records_go_on_without_a_payload_where_the_configuration_says_so() -> None:
    """Each keeps its place, says in parse_error what was wrong, and is counted like any other decode error."""
    seen: list[Any] = []

    class Lenient(PerRecord):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            seen.extend((message.value, message.payload, bool(message.parse_error)) for message in messages)
            return self.tasks(messages)

    config = DrakkarConfig(runtime={"on_decode_error": "pass"})
    outcome = run_flow(Lenient(), [b"1", b"x", b"3"], config=config)
    assert seen == [(b"1", 1, False), (b"x", None, True), (b"3", 3, False)]
    assert (outcome.committed, outcome.dead_letters, ends(outcome)) == ({LANE: 3}, [], (3, 0, 0))
    assert [(event.kind, event.count, event.label) for event in outcome.of(RecordsFailed)] == [
        ("decode", 1, "input:0:1")
    ]


@pytest.mark.parametrize("policy", ["dlq", "skip", "fail"])
def test_a_flows_own_word_on_undecodable_records_outweighs_pass(policy: ErrorPolicy) -> None:
    """What decode(on_error=...) says holds: nothing undecoded goes on."""
    config = DrakkarConfig(runtime={"on_decode_error": "pass"})
    outcome = run_flow(StreamFlow("own").decode(int, on_error=policy).route(), ["x"], config=config)
    assert outcome.values == []
    assert len(outcome.dead_letters) == (policy == "dlq")
    assert bool(outcome.failure) is (policy == "fail")


def test_the_flows_word_on_undecodable_records_outweighs_the_configurations() -> None:
    """decode(on_error=...) wins over runtime.on_decode_error."""
    config = DrakkarConfig(runtime={"on_decode_error": "fail"})
    outcome = run_flow(StreamFlow("dlq").decode(int, on_error="dlq").route(), ["x"], config=config)
    assert outcome.failure is None
    assert len(outcome.dead_letters) == 1


def test_a_failing_decode_stops_the_flow_and_keeps_the_offset_without_waiting_out_the_drain() -> None:
    """ "fail" commits what came before, keeps the record's offset, and ends at once."""
    config = DrakkarConfig(runtime={"drain_timeout_s": 600})
    flow = StreamFlow("fail").decode(int, on_error="fail").route()
    outcome = run_flow(flow, [1, 2, "x", 3], config=config)
    assert outcome.committed == {LANE: 2}
    assert outcome.dead_letters == []
    assert outcome.failure is not None
    assert outcome.failure.startswith("decode failed at input:0:2")


def test_map_replaces_payloads_and_may_see_the_record() -> None:
    """with_record gives the record beside the payload."""
    flow = numbers().map(lambda n: n + 1).map(lambda n, record: (n, record.offset), with_record=True, name="b").route()
    assert run_flow(flow, [10, 20]).values == [(11, 0), (21, 1)]


def test_a_map_that_raises_makes_a_dead_letter_of_its_record_only() -> None:
    """The failure has the step's id, the exception's class, its text and where it was raised."""

    def invert(n: int) -> float:
        return 1 / n

    outcome = run_flow(numbers().map(invert).route(), [1, 0, 2])
    assert outcome.values == [1.0, 0.5]
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.stage, letter.error) == (FailureKind.BUSINESS, "map-invert", "division by zero")
    assert letter.exception_class == "builtins.ZeroDivisionError"
    assert "in invert" in letter.stacktrace
    assert outcome.committed == {LANE: 3}


@pytest.mark.parametrize(
    ("policy", "committed", "letters", "failed"),
    [("dlq", 3, 1, False), ("skip", 3, 0, False), ("fail", 1, 0, True)],
    ids=["dlq", "skip", "fail"],
)
def test_errors_of_steps_follow_the_routes_policy(
    policy: ErrorPolicy, committed: int, letters: int, failed: bool
) -> None:
    """route(on_error=...) decides about every error of a user's function."""
    outcome = run_flow(numbers().map(lambda n: 1 / n).route(on_error=policy), [1, 0, 2])
    assert outcome.values == [1.0, 0.5]
    assert outcome.committed == {LANE: committed}
    assert len(outcome.dead_letters) == letters
    assert bool(outcome.failure) is failed


def test_filter_finishes_what_it_does_not_want() -> None:
    """Filtered records are done: nothing is written for them and their offsets move on."""
    flow = numbers().filter(lambda n: n % 2).filter(lambda n, record: record.offset != 1, with_record=True, name="b")
    outcome = run_flow(flow.route(), [1, 3, 4, 5])
    assert outcome.values == [1, 5]
    assert outcome.committed == {LANE: 4}
    assert ends(outcome) == (4, 0, 0)


def test_a_filter_that_raises_makes_a_dead_letter() -> None:
    """An error is no answer: the record is neither kept nor finished."""
    outcome = run_flow(numbers().filter(lambda n: 1 / n).route(), [0, 1])
    assert outcome.values == [1]
    assert [letter.kind for letter in outcome.dead_letters] == [FailureKind.BUSINESS]
    assert outcome.committed == {LANE: 2}


def test_flat_map_gives_every_value_and_finishes_records_without_any() -> None:
    """0, 1 and many values: each is delivered, each record finishes once."""
    outcome = run_flow(numbers().flat_map(lambda n: [n] * n).route(), [0, 1, 3, 0])
    assert outcome.values == [1, 3, 3, 3]
    assert outcome.committed == {LANE: 4}
    assert ends(outcome) == (4, 0, 0)


def test_flat_map_takes_generators_and_may_see_the_record() -> None:
    """Any iterable will do."""
    flow = numbers().flat_map(lambda n, record: ((n, record.offset, i) for i in range(2)), with_record=True)
    assert run_flow(flow.route(), [7]).values == [(7, 0, 0), (7, 0, 1)]


def test_a_generator_that_breaks_in_the_middle_delivers_nothing_of_its_record() -> None:
    """A flat_map is all or nothing: half a record is never delivered beside its dead letter."""

    def broken(n: int) -> Iterator[int]:
        yield n
        raise ValueError("half way")

    outcome = run_flow(numbers().flat_map(broken).route(), [1])
    assert outcome.values == []
    assert [letter.error for letter in outcome.dead_letters] == ["half way"]
    assert outcome.committed == {LANE: 1}


def test_nested_flat_maps_commit_after_every_leaf() -> None:
    """Shares of shares add up: five levels of seven leaves each, then some of them fail."""
    flow = numbers()
    for level in range(5):
        flow = flow.flat_map(lambda n: [n] * 7, name=f"level-{level}")
    failing: Counter[int] = Counter()

    def last(n: int) -> int:
        failing[n] += 1
        if failing[n] % 1000 == 0:
            raise ValueError("every thousandth")
        return n

    outcome = run_flow(flow.map(last).route(), [1, 2])
    assert len(outcome.values) == 2 * (7**5 - 16)
    assert len(outcome.dead_letters) == 2 * 16
    assert outcome.committed == {LANE: 2}
    assert ends(outcome) == (0, 0, 2)


def test_leaves_of_one_record_share_nothing_but_their_origin() -> None:
    """Changing the payload of one leaf leaves its siblings alone."""
    flow = numbers().flat_map(lambda n: [n, n + 1]).map(lambda n: -n).route()
    assert run_flow(flow, [1, 5]).values == [-1, -2, -5, -6]


def test_map_async_replaces_payloads_and_may_see_the_record() -> None:
    """An async function's value is the new payload."""

    async def twice(n: int, record: Record) -> tuple[int, int]:
        await asyncio.sleep(0)
        return n * 2, record.offset

    outcome = run_flow(numbers().map_async(twice, with_record=True).route(), [1, 2, 3])
    assert sorted(outcome.values) == [(2, 0), (4, 1), (6, 2)]
    assert outcome.committed == {LANE: 3}


def test_map_async_runs_as_many_calls_at_once_as_it_may_and_no_more() -> None:
    """max_in_flight is reached and never passed."""
    running = 0
    peak = 0

    async def watched(n: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    outcome = run_flow(numbers().map_async(watched, max_in_flight=3).route(), range(50))
    assert peak == 3
    assert sorted(outcome.values) == list(range(50))


@pytest.mark.parametrize("timeout_s", [None, 30.0])
def test_map_async_takes_thousands_of_calls_that_do_not_wait(timeout_s: float | None) -> None:
    """Calls that answer at once need no stack: one batch of any size goes through."""

    async def at_once(n: int) -> int:
        return n

    flow = numbers().map_async(at_once, max_in_flight=2, timeout_s=timeout_s).route()
    outcome = run_flow(flow, range(3000))
    assert outcome.values == list(range(3000))
    assert outcome.committed == {LANE: 3000}


def test_a_call_that_takes_too_long_is_cancelled_and_its_record_follows_the_error_route() -> None:
    """timeout_s bounds each call; the function learns of it by its cancellation."""
    cancelled = []

    async def hang(n: int) -> int:
        if n == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(n)
                raise
        return n

    outcome = run_flow(numbers().map_async(hang, timeout_s=0.01).route(), [0, 1, 2])
    assert cancelled == [1]
    assert sorted(outcome.values) == [0, 2]
    (letter,) = outcome.dead_letters
    assert letter.error == "map_async-hang took longer than 0.01 s"
    assert outcome.committed == {LANE: 3}


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "at-once"])
def test_a_map_async_that_raises_makes_a_dead_letter(waits: bool) -> None:
    """Its exception is its record's failure, whether it comes at once or later."""

    async def picky(n: int) -> int:
        if waits:
            await asyncio.sleep(0)
        if n == 1:
            raise KeyError("no one")
        return n

    outcome = run_flow(numbers().map_async(picky, max_in_flight=1).route(), [0, 1, 2])
    assert outcome.values == [0, 2]
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.stage) == (FailureKind.BUSINESS, "map_async-picky")
    assert letter.exception_class == "builtins.KeyError"
    assert outcome.committed == {LANE: 3}


def test_failures_overtake_what_still_waits_in_an_async_step() -> None:
    """A dead letter is written while an earlier record still waits; its offset waits for that one."""

    async def first_waits(n: int) -> int:
        if n == 0:
            await blocked.wait()
        return n

    blocked = asyncio.Event()
    flow = numbers().map(lambda n: n if n != 1 else 1 / 0).map_async(first_waits).route()
    with FlowRun(flow, [0, 1, 2]) as run:
        run.wait_until(lambda: run.dead_letters.letters and run.sink().values == [2])
        assert run.reader.committed == {}
        run.call(blocked.set)
        outcome = run.finish()
    assert outcome.values == [2, 0]
    assert outcome.committed == {LANE: 3}
