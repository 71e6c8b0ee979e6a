"""Keyed state in a flow: exact over crashes and rebalances, ordered by key, with one clear line for each mistake."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from drakkar_flow import StreamFlow
from drakkar_flow.errors import FlowError
from drakkar_flow.graph.signatures import function_problems
from drakkar_flow.testing import CRASH, FlowHarness, Gate, run_flow


class Seen(msgspec.Struct, frozen=True):
    """State of a user."""

    count: int = 0


class Visit(msgspec.Struct):
    """An event."""

    user: str
    bad: bool = False


def count(seen: Seen | None, visit: Visit) -> tuple[Seen | None, str | None]:
    """Number the visits of a user."""
    if visit.bad:
        raise ValueError("a bad visit")
    number = (seen.count if seen else 0) + 1
    return Seen(number), f"{visit.user}{number}"


def user_of(visit: Visit) -> str:
    """Key of the state."""
    return visit.user


def visits(*steps: str) -> list[dict[str, Any]]:
    """One visit per name."""
    return [{"user": user} for user in steps]


def flow() -> StreamFlow:
    """Count per user."""
    return StreamFlow("visits").decode(Visit).stateful(count, key=user_of, state=Seen)


def test_each_record_gets_the_state_that_those_before_it_left() -> None:
    """Also within one chunk; every partition has separate state."""
    outcome = run_flow(flow().route(), visits("a", "b", "a", "a"))
    assert outcome.values == ["a1", "b1", "a2", "a3"]
    assert outcome.state == {"stateful-count": {"a": {"count": 3}, "b": {"count": 1}}}
    split = run_flow(flow().route(), visits("a", "a", "a"), partitions=2)
    assert sorted(split.values) == ["a1", "a1", "a2"]
    assert split.state["stateful-count"] == {"a of input:0": {"count": 2}, "a of input:1": {"count": 1}}


def test_a_crash_takes_back_exactly_what_was_not_committed() -> None:
    """Records are read again from the state before them, so that each counts once."""
    outcome = run_flow(flow().route(), [*visits("a", "b", "a"), CRASH, *visits("a"), CRASH, *visits("b")])
    again = ["a1", "b1", "a2"]
    assert outcome.values == [*again, *again, "a3", *again, "a3", "b2"]
    assert outcome.state == {"stateful-count": {"a": {"count": 3}, "b": {"count": 2}}}


def test_committed_state_survives_a_crash_and_a_stop() -> None:
    """What is final is there again; a new version of the flow reads it."""
    with FlowHarness(flow().route()) as kit:
        kit.send_all(visits("a", "a"))
        kit.wait_acknowledged()
        kit.crash()
        assert kit.state("a") == Seen(2)
        kit.restart()
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        assert kit.state("a") == Seen(3)
        kit.stop()
        kit.restart()
        kit.send_all(visits("a"))
        assert kit.finish().values == ["a1", "a2", "a3", "a4"]
        assert kit.state("a") == Seen(4)
        assert kit.state("nobody") is None


def slow(gate: Gate) -> StreamFlow:
    """Count, then wait for the gate with the second visit of `a`."""

    async def wait(text: str) -> str:
        if text == "a2":
            await gate.passage()
        return text

    return flow().map_async(wait).route()


def test_a_slow_record_holds_the_commits_of_its_key_and_a_crash_repeats_them() -> None:
    """Records of other keys finish; those behind the slow one are delivered, and become final with it."""
    gate = Gate()
    gate.shut()
    with FlowHarness(slow(gate)) as kit:
        kit.send_all(visits("a", "a", "a", "b", "a"))
        kit.wait_for(lambda: sorted(kit.values) == ["a1", "a3", "a4", "b1"])
        kit.wait_for(lambda: kit.state("b") == Seen(1))
        assert kit.state("a") == Seen(1)
        kit.crash()
        assert (kit.state("a"), kit.state("b")) == (Seen(1), Seen(1))
        gate.open()
        kit.restart()
        kit.wait_acknowledged()
        assert kit.state("a") == Seen(4)
        assert sorted(kit.values) == ["a1", "a2", "a3", "a3", "a4", "a4", "b1"]
        assert kit.committed == {("input", 0): 5}


def test_a_rebalance_keeps_what_is_final_and_drops_the_rest() -> None:
    """The next assignment reads the unfinished records again, from the state without them."""
    gate = Gate()
    gate.shut()
    with FlowHarness(slow(gate), partitions=2) as kit:
        kit.send_all(visits("a", "a", "a"), partition=0)
        kit.send_all(visits("a"), partition=1)
        kit.wait_for(lambda: len(kit.values) == 3 and kit.state("a", partition=0) == Seen(1))
        assert kit.revoke(0) == 2
        assert kit.state("a", partition=0) == Seen(1)
        kit.assign(0)
        gate.open()
        kit.wait_acknowledged()
        assert (kit.state("a", partition=0), kit.state("a", partition=1)) == (Seen(3), Seen(1))
        with pytest.raises(AssertionError, match="several partitions: input:0, input:1; set partition="):
            kit.state("a")
        kit.lose(1)
        kit.send_all(visits("a"), partition=1)
        kit.assign(1)
        kit.wait_acknowledged()
        assert kit.state("a", partition=1) == Seen(2)


def test_none_deletes_the_state_and_no_output_finishes_the_record() -> None:
    """The change is final then, too."""

    def toggle(seen: Seen | None, visit: Visit) -> tuple[Seen | None, str | None]:
        return (Seen(1), None) if seen is None else (None, visit.user)

    flow = StreamFlow("toggle").decode(Visit).stateful(toggle, key=user_of, state=Seen).route()
    outcome = run_flow(flow, visits("a", "b", "a"))
    assert (outcome.values, outcome.committed) == (["a"], {("input", 0): 3})
    assert outcome.state == {"stateful-toggle": {"b": {"count": 1}}}


def test_a_record_that_fails_changes_nothing() -> None:
    """Its state is that of the record before it; the next record of its key goes on from there."""
    outcome = run_flow(flow().route(), [{"user": "a"}, {"user": "a", "bad": True}, {"user": "a"}])
    assert outcome.values == ["a1", "a2"]
    (letter,) = outcome.dead_letters
    assert (letter.stage, letter.error) == ("stateful-count", "a bad visit")
    assert outcome.state == {"stateful-count": {"a": {"count": 2}}}


def test_the_change_of_a_record_that_becomes_a_dead_letter_later_counts() -> None:
    """The record is finished."""

    def fail(_text: str) -> str:
        raise ValueError("no")

    outcome = run_flow(flow().map(fail).route(), visits("a"))
    assert len(outcome.dead_letters) == 1
    assert outcome.state == {"stateful-count": {"a": {"count": 1}}}


def broken(fn: Any = None, key: Any = None) -> StreamFlow:
    """A flow with a mistake in one function."""
    good = lambda seen, visit: (Seen(1), visit.user)  # noqa: E731
    return StreamFlow("broken").decode(Visit).stateful(fn or good, key=key or user_of, state=Seen, name="s").route()


@pytest.mark.parametrize(
    ("flow", "error"),
    [
        (
            broken(fn=lambda _seen, _visit: "text"),
            "the function of stateful-s must return a tuple (state, output), not str",
        ),
        (broken(fn=lambda _seen, _visit: (1, 2, 3)), "must return a tuple (state, output), not a tuple of 3"),
        (broken(fn=lambda _seen, _visit: ("x", 1)), "state of stateful-s, key 'a', input:0:0: expected Seen, got str"),
        (
            broken(fn=lambda _seen, _visit: (Seen("x"), 1)),  # type: ignore[arg-type]  # wrong on purpose
            "state of stateful-s, key 'a', input:0:0: Seen can't be stored",
        ),
        (broken(key=lambda visit: visit.name), "the key function of stateful-s failed for input:0:0: 'Visit' object"),
        (
            broken(key=lambda _visit: None),
            "the key function of stateful-s returned None for input:0:0: a key of state is",
        ),
        (broken(key=lambda _visit: "\ud800"), "the key function of stateful-s returned '\\ud800' for input:0:0"),
    ],
)
def test_mistakes_are_failures_of_their_records(flow: StreamFlow, error: str) -> None:
    """One line names the step, the key and the record; nothing is skipped silently."""
    outcome = run_flow(flow, visits("a"))
    assert outcome.values == []
    (letter,) = outcome.dead_letters
    assert error in letter.error
    assert outcome.state == {}


def test_values_of_an_older_model_are_migrated() -> None:
    """Between two versions of a flow, without a loss."""

    class Newer(msgspec.Struct):
        total: int

    def later(seen: Newer | None, visit: Visit) -> tuple[Newer, str]:
        total = (seen.total if seen else 0) + 1
        return Newer(total), f"{visit.user}{total}"

    def newer(migrate: Any) -> StreamFlow:
        step = StreamFlow("visits").decode(Visit)
        return step.stateful(later, key=user_of, state=Newer, migrate=migrate, name="count").route()

    with FlowHarness(flow().route()) as kit:
        kit.send_all(visits("a", "a"))
        kit.wait_acknowledged()
        kit.restart(newer(None))
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        assert "written by another version of Newer and does not fit" in kit.letters()[0].error
        kit.restart(newer(lambda old: Newer(old["count"])))
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        assert kit.values == ["a1", "a2", "a3"]
        assert kit.state("a") == Newer(3)


def test_values_expire_by_the_time_of_the_last_write() -> None:
    """An expired value is read as none, and is removed even if its key does not return."""
    flow = StreamFlow("visits").decode(Visit).stateful(count, key=user_of, state=Seen, ttl_s=60).route()
    with FlowHarness(flow) as kit:
        kit.send_all(visits("a", "b"))
        kit.wait_acknowledged()
        kit.clock.advance(59)
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        kit.clock.advance(59)
        assert (kit.state("a"), kit.state("b")) == (Seen(2), None)
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        kit.clock.advance(61)
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        assert kit.values == ["a1", "b1", "a2", "a3", "a1"]
        kit.stop()
        assert [key for _, key in kit.log.rows["input", 0].state] == ["a"]


def test_dedupe_passes_the_first_of_each_key() -> None:
    """Until the time to live is over, counted from the first one."""
    flow = StreamFlow("once").decode(Visit).dedupe(user_of, 60).map(user_of).route()
    with FlowHarness(flow) as kit:
        kit.send_all(visits("a", "b", "a"))
        kit.wait_acknowledged()
        kit.clock.advance(40)
        kit.send_all(visits("a", "b"))
        kit.wait_acknowledged()
        kit.clock.advance(40)
        kit.send_all(visits("a"))
        kit.wait_acknowledged()
        assert kit.values == ["a", "b", "a"]
        assert kit.committed == {("input", 0): 6}


def test_dedupe_of_bytes_by_the_key_of_the_record() -> None:
    """A flow without decode has no payloads; its records pass as they are."""
    flow = StreamFlow("once").dedupe(lambda _payload, record: record.key, None, with_record=True)
    with FlowHarness(flow.map(lambda _none, record: record.value, with_record=True).route()) as kit:
        kit.send("x", key="k")
        kit.send("y", key="k")
        kit.wait_acknowledged()
        assert kit.values == [b"x"]
        assert kit.state(b"k") is True


def test_records_that_fan_out_before_and_after_the_state() -> None:
    """Shares of one record change state; the record's changes are final with its last share."""

    async def tick(text: str) -> str:
        await asyncio.sleep(0.1 if text.endswith("1") else 0.0)
        return text

    flow = StreamFlow("words").decode(str).flat_map(str.split).map_async(tick)
    counted = flow.stateful(lambda n, w: ((n or 0) + 1, f"{w}{(n or 0) + 1}"), key=lambda w: w, state=int, name="n")
    outcome = run_flow(counted.flat_map(lambda text: [text, text.upper()]).route(), ["x y x", "y x1", "x1 x"])
    assert outcome.state == {"stateful-n": {"x": 3, "y": 2, "x1": 2}}
    assert outcome.committed == {("input", 0): 3}


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        (
            StreamFlow("f").stateful(count, key=user_of, state=object).route(),
            "state of type <class 'object'> can't be stored",
        ),
        (StreamFlow("f").stateful(count, key="user", state=int).route(), "'user' can't be called; pass a function"),  # type: ignore[arg-type]  # wrong on purpose
        (StreamFlow("f").stateful(asyncio.sleep, key=user_of, state=int).route(), "its fn is an async function"),  # type: ignore[arg-type]  # wrong on purpose
        (
            StreamFlow("f").stateful(count, key=user_of, state=int).stateful(count, key=user_of, state=int).route(),
            "step stateful-count: 2 steps with state have this name, by which their state is found again; give each",
        ),
    ],
)
def test_mistakes_in_a_flow_are_found_before_it_runs(flow: StreamFlow, problem: str) -> None:
    """Each with its step and a fix."""
    with pytest.raises(FlowError, match=problem.replace("(", r"\(")):
        flow.check()


def test_parameters_that_do_not_fit_are_found_by_lint() -> None:
    """Of the function and of the key, with and without the record."""
    flow = StreamFlow("f").stateful(lambda state: state, key=lambda: 1, state=int, with_record=True).route()
    problems = [str(problem) for problem in function_problems(flow.steps(), flow.hooks)]
    assert len(problems) == 2
    assert "write them as (state, payload, record)" in problems[0]
    assert "write them as (payload, record)" in problems[1]


def test_the_number_of_seconds_is_checked_where_it_is_written() -> None:
    """As for every argument."""
    with pytest.raises(FlowError, match="ttl_s is 0; use more than 0 seconds"):
        StreamFlow("f").stateful(count, key=user_of, state=int, ttl_s=0)
