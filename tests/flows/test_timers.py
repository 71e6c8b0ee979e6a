"""Timers of keyed state: fired once, with the next record of the partition, exact over crashes and rebalances."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from drakkar_flow import StreamFlow
from drakkar_flow.graph.signatures import function_problems
from drakkar_flow.testing import FlowHarness
from support.lives import disturb


def user_of(event: dict[str, Any]) -> str:
    """Key of the state."""
    return str(event["user"])


def count(n: int | None, event: dict[str, Any]) -> tuple[Any, ...]:
    """Count, and wait a minute for the next event; `timer_s` of the event replaces the minute."""
    return (n or 0) + 1, event.get("output"), event.get("timer_s", 60)


def left(n: int | None, user: str) -> tuple[int | None, str]:
    """Forget the user."""
    return None, f"{user} left after {n}"


def flow(**settings: Any) -> StreamFlow:
    """A flow that reports users who are silent for a minute."""
    given = {"fn": count, "key": user_of, "state": int, "on_timer": left, **settings}
    return StreamFlow("silence").decode(dict).stateful(given.pop("fn"), **given).route()


def event(user: str, **fields: Any) -> dict[str, Any]:
    """One event."""
    return {"user": user, **fields}


def sent(kit: FlowHarness, *events: dict[str, Any], after_s: float = 0) -> list[Any]:
    """Send events after a time; returns what they and the timers before them delivered."""
    kit.clock.advance(after_s)
    before = len(kit.values)
    kit.wait_acknowledged(*kit.send_all(events))
    return list(kit.values[before:])


def test_a_timer_fires_once_with_the_next_record_after_its_time() -> None:
    """Before that record's own function; earliest first. Each record moves the timer of its key."""
    with FlowHarness(flow()) as kit:
        assert sent(kit, event("b"), event("a")) == []
        assert sent(kit, event("b", output="again"), after_s=30) == ["again"]
        assert sent(kit, event("c", output="c"), after_s=29.9) == ["c"]
        assert sent(kit, event("c", output="c"), after_s=0.1) == ["a left after 1", "c"]
        assert sent(kit, event("c"), after_s=30) == ["b left after 2"]
        assert sent(kit, event("b"), after_s=59) == []
        assert kit.outcome().state["stateful-count"] == {"b": 1, "c": 3}


def test_a_timer_fires_before_a_record_of_its_key() -> None:
    """The record then finds the state that the timer left."""
    with FlowHarness(flow()) as kit:
        sent(kit, event("a"), event("a"))
        assert sent(kit, event("a"), after_s=60) == ["a left after 2"]
        assert kit.state("a", step="stateful-count") == 1


def test_none_cancels_a_timer_and_a_tuple_of_two_keeps_it() -> None:
    """A negative time is due with the next record."""

    def shorter(n: int | None, event: dict[str, Any]) -> tuple[Any, ...]:
        return count(n, event)[:2] if event.get("short") else count(n, event)

    with FlowHarness(flow(fn=shorter)) as kit:
        sent(kit, event("a"), event("b"), event("a", timer_s=None), event("b", short=True))
        assert sent(kit, event("c", timer_s=-5), after_s=60) == ["b left after 2"]
        assert sent(kit, event("d")) == ["c left after 1"]


def test_a_timer_can_set_itself_again() -> None:
    """Its function returns the same as that of records."""

    def remind(n: int | None, user: str) -> tuple[Any, ...]:
        return (n or 0) * 10, f"{user} {n}", 60

    with FlowHarness(flow(on_timer=remind)) as kit:
        sent(kit, event("a"))
        assert sent(kit, event("z", timer_s=None), after_s=3600) == ["a 1"]
        assert sent(kit, event("z", timer_s=None), after_s=60) == ["a 10"]
        assert sent(kit, event("z", timer_s=None), after_s=59) == []


def test_timers_survive_crashes_and_restarts_and_the_time_of_both_counts() -> None:
    """A final timer does not fire again; one whose record was not committed does."""
    with FlowHarness(flow()) as kit:
        sent(kit, event("a"))
        kit.wait_acknowledged()
        kit.crash()
        kit.clock.advance(60)
        kit.restart()
        assert sent(kit, event("b")) == ["a left after 1"]
        kit.wait_acknowledged()
        kit.stop()
        kit.restart()
        assert sent(kit, event("b"), after_s=1) == []
        kit.hold_commits()
        assert sent(kit, event("c"), after_s=60) == ["b left after 2"]
        kit.crash()
        kit.restart()
        kit.wait_acknowledged()
        assert kit.values[-1:] == ["b left after 2"]


def test_a_timer_that_fails_is_a_dead_letter_and_the_record_goes_on() -> None:
    """It has fired: the next record does not meet it again."""

    def broken(n: int | None, user: str) -> tuple[Any, ...]:
        raise ValueError("no mail server")

    with FlowHarness(flow(on_timer=broken)) as kit:
        sent(kit, event("a"))
        assert sent(kit, event("b", output="b"), after_s=60) == ["b"]
        assert sent(kit, event("b", output="b")) == ["b"]
        (letter,) = kit.dead_letters
        assert letter.error == "the timer of stateful-count, key 'a', failed: no mail server"
        assert kit.outcome().state["stateful-count"] == {"a": 1, "b": 2}
        assert kit.outcome().state["stateful-count.timer"].keys() == {"b"}


@pytest.mark.parametrize("timer_s", ["soon", True, float("nan"), [1]])
def test_a_timer_is_a_number_of_seconds(timer_s: object) -> None:
    """Else the record fails and changes nothing."""

    def mistaken(n: int | None, event: dict[str, Any]) -> tuple[Any, ...]:
        return 1, None, timer_s

    with FlowHarness(flow(fn=mistaken)) as kit:
        sent(kit, event("a"))
        (letter,) = kit.dead_letters
        assert "the timer of stateful-mistaken must be seconds from now or None, not" in letter.error
        assert kit.outcome().state == {}


def test_a_third_value_needs_on_timer() -> None:
    """The error names the tuples that are allowed."""
    with FlowHarness(flow(on_timer=None)) as kit:
        sent(kit, event("a"))
        assert "must return a tuple (state, output), not a tuple of 3" in kit.dead_letters[0].error

    async def later(n: int | None, user: str) -> Any:
        return None, None

    assert [problem.what for problem in flow(on_timer=later).problems()] == ["its on_timer is an async function"]
    misfit = flow(on_timer=lambda n: (n, None))
    assert len(list(function_problems(misfit.steps(), misfit.hooks))) == 1


class Visits(msgspec.Struct, frozen=True):
    """Events of a user since the last timer, and before it."""

    new: int = 0
    old: int = 0


def events_of(kit: FlowHarness) -> Counter[tuple[str, int]]:
    """Number of good events by user and partition."""
    sent = [(each.partition, kit.log.records[each.topic_partition][each.offset].value) for each in kit.sent]
    users = [(str(msgspec.json.decode(value)["user"]), partition) for partition, value in sent]
    return Counter(user for user in users if user[0] != "x")


@pytest.mark.parametrize("seed", range(30))
def test_each_event_is_counted_once_by_a_timer(seed: int) -> None:
    """After any number of crashes and rebalances; a timer is set exactly while there are new events."""
    chance = random.Random(seed)

    def seen(visits: Visits | None, event: dict[str, Any]) -> tuple[Any, ...]:
        if event["user"] == "x":
            raise ValueError("bad")
        visits = visits or Visits()
        return Visits(visits.new + 1, visits.old), event["user"], 5

    def moved(visits: Visits | None, user: str) -> tuple[Any, ...]:
        assert visits is not None
        assert visits.new
        return Visits(0, visits.old + visits.new), f"{user} moved"

    async def wait(text: str) -> str:
        await asyncio.sleep(chance.choice((0, 0, 0.1, 3)))
        return text

    timed = StreamFlow("timed").decode(dict).stateful(seen, key=user_of, state=Visits, on_timer=moved, name="n")
    with FlowHarness(timed.map_async(wait).route(), partitions=2) as kit:
        for _ in range(30):
            disturb(kit, chance, 2, lambda: kit.send(event(chance.choice("aabcx")), partition=chance.randrange(2)))
        kit.let_commits_go()
        kit.wait_acknowledged()
        for (user, partition), number in events_of(kit).items():
            visits = kit.state(user, step="stateful-n", partition=partition)
            timer = kit.state(user, step="stateful-n.timer", partition=partition)
            assert visits.old + visits.new == number
            assert (timer is not None) == (visits.new > 0)
        assert {letter.error for letter in kit.dead_letters} <= {"bad"}
