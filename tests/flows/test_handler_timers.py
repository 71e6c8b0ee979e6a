"""Timers of a handler's state: `on_timer` fires once, before the next window of its partition, exact over crashes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from drakkar_flow import CollectResult, Handler, KafkaPayload, PendingContext, StreamFlow
from drakkar_flow.errors import FlowError
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.testing import FlowHarness, Gate, run_flow
from support.lives import disturb


def payload(data: Any) -> CollectResult:
    """A payload for every sink."""
    return CollectResult(kafka=[KafkaPayload(data=data)])


class Silent(Handler[dict, dict]):  # type: ignore[type-arg]  # plain types
    """Reports users who are silent for a minute; `timer_s` of a record replaces the minute."""

    state_model = int

    async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
        """Count, and wait a minute for the next record."""
        for message in messages:
            user = message.payload["user"]
            self.state[user] = self.state.get(user, 0) + 1
            self.state.set_timer(user, message.payload.get("timer_s", 60))
        return []

    async def on_timer(self, key: Any) -> Any:
        """Forget the user."""
        count = self.state[key]
        del self.state[key]
        return payload(f"{key} left after {count}")


def sent(kit: FlowHarness, *users: str, after_s: float = 0, **fields: Any) -> list[Any]:
    """Send records of users after a time; returns what was delivered until they were finished."""
    kit.clock.advance(after_s)
    before = len(kit.values)
    kit.wait_acknowledged(*kit.send_all([{"user": user, **fields} for user in users]))
    return list(kit.values[before:])


def test_a_timer_fires_once_before_the_next_window() -> None:
    """Earliest first; a timer that is set again moves."""
    with FlowHarness(Silent()) as kit:
        assert sent(kit, "b", "a") == []
        assert sent(kit, "b", after_s=30) == []
        assert sent(kit, "c", after_s=30) == ["a left after 1"]
        assert sent(kit, "b", after_s=30) == ["b left after 2"]
        assert kit.outcome().state["handler"] == {"c": 1, "b": 1}
        assert kit.outcome().state["handler.timer"].keys() == {"c", "b"}


def test_none_cancels_a_timer_and_a_negative_time_is_due_at_once() -> None:
    """With the next window, that is."""
    with FlowHarness(Silent()) as kit:
        sent(kit, "a")
        sent(kit, "a", timer_s=None)
        assert sent(kit, "b", after_s=100, timer_s=-5) == []
        assert sent(kit, "c") == ["b left after 1"]


def test_a_timer_can_set_itself_again_and_its_hook_may_wait() -> None:
    """The window waits for it."""

    class Reminding(Silent):
        async def on_timer(self, key: Any) -> Any:
            await asyncio.sleep(1)
            self.state[key] *= 10
            self.state.set_timer(key, 60)
            return payload(f"{key} {self.state[key]}")

    with FlowHarness(Reminding()) as kit:
        sent(kit, "a")
        assert sent(kit, "z", after_s=3600, timer_s=None) == ["a 10"]
        assert sent(kit, "z", after_s=59, timer_s=None) == []
        assert sent(kit, "z", after_s=1, timer_s=None) == ["a 100"]


def test_a_hook_without_async_or_result_works_too() -> None:
    """As with other hooks."""

    class Forgetting(Silent):
        def on_timer(self, key: Any) -> None:  # type: ignore[override]  # a plain function is allowed
            del self.state[key]

    with FlowHarness(Forgetting()) as kit:
        sent(kit, "a")
        assert sent(kit, "b", after_s=60) == []
        assert kit.outcome().state["handler"] == {"b": 1}


def test_a_record_is_finished_when_the_outputs_of_its_timers_are_delivered() -> None:
    """They belong to the first record of the window; the others do not wait."""
    with FlowHarness(Silent()) as kit:
        sent(kit, "a")
        kit.wait_acknowledged()
        kit.clock.advance(60)
        kit.hold_commits()
        assert sent(kit, "b", "c") == ["a left after 1"]
        kit.crash()
        kit.restart()
        kit.wait_acknowledged()
        assert kit.values == ["a left after 1"] * 2
        assert kit.outcome().state["handler"] == {"b": 1, "c": 1}


def test_a_timer_whose_hook_fails_has_fired_and_the_window_goes_on() -> None:
    """A share of the first record is a dead letter."""

    class Broken(Silent):
        async def on_timer(self, key: Any) -> Any:
            self.state[key] = 99
            raise ValueError("no mail server")

    with FlowHarness(Broken()) as kit:
        sent(kit, "a")
        assert sent(kit, "b", after_s=60) == []
        sent(kit, "b")
        (letter,) = kit.dead_letters
        assert "no mail server" in letter.error
        assert kit.outcome().state["handler"] == {"a": 1, "b": 2}
        assert kit.outcome().state["handler.timer"].keys() == {"b"}


def test_a_wrong_result_of_the_hook_changes_nothing() -> None:
    """The error names the hook."""

    class Wrong(Silent):
        async def on_timer(self, key: Any) -> Any:
            self.state[key] = 99
            return 7

    with FlowHarness(Wrong()) as kit:
        sent(kit, "a")
        sent(kit, "b", after_s=60)
        assert "on_timer returned" in kit.dead_letters[0].error
        assert kit.outcome().state["handler"] == {"a": 1, "b": 1}


def test_outputs_of_timers_are_delivered_though_arrange_fails() -> None:
    """The timers fired before it."""

    class Failing(Silent):
        async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
            if messages[0].payload["user"] == "x":
                raise ValueError("bad")
            return await super().arrange(messages, pending)

    with FlowHarness(Failing()) as kit:
        sent(kit, "a")
        assert sent(kit, "x", after_s=60) == ["a left after 1"]
        assert [letter.error for letter in kit.dead_letters] == ["bad"]
        assert sent(kit, "b") == []


@pytest.mark.parametrize("timer_s", ["soon", True, float("nan"), [1]])
def test_a_timer_is_a_number_of_seconds(timer_s: object) -> None:
    """Else the call raises where it stands."""

    class Mistaken(Silent):
        async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
            self.state.set_timer("a", timer_s)
            return []

    outcome = run_flow(Mistaken(), [{"user": "a"}])
    assert "the timer of key 'a' must be seconds from now or None, not" in outcome.dead_letters[0].error


def test_set_timer_needs_on_timer_and_on_timer_a_state_model() -> None:
    """A handler of py-drakkar may have a helper of that name."""

    class Without(Silent):
        on_timer = Handler.on_timer

    assert "set_timer needs a hook on_timer" in run_flow(Without(), [{"user": "a"}]).dead_letters[0].error

    class Helper(Handler[dict, dict]):  # type: ignore[type-arg]  # plain types
        async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
            return []

        def on_timer(self) -> None:  # type: ignore[override]  # a helper
            pass

    flow = StreamFlow.from_handler(Helper())
    assert flow.hooks.warnings == ("Helper defines on_timer and no state_model: it is never called",)
    assert run_flow(Helper(), [{"user": "a"}]).dead_letters == []

    class Misfit(Silent):
        async def on_timer(self) -> None:  # type: ignore[override]  # wrong on purpose
            pass

    with pytest.raises(FlowError, match=r"Misfit\.on_timer: its parameters"):
        StreamFlow.from_handler(Misfit()).check()


def test_a_partition_that_leaves_while_its_timers_fire_repeats_them_elsewhere() -> None:
    """The change of an unfinished record is dropped, and its window never arranged."""
    gate = Gate()

    class Waiting(Silent):
        async def on_timer(self, key: Any) -> Any:
            await gate.passage()
            return await super().on_timer(key)

    with FlowHarness(Waiting()) as kit:
        sent(kit, "a")
        kit.wait_acknowledged()
        kit.clock.advance(60)
        gate.shut()
        kit.send({"user": "b"})
        kit.wait_for(lambda: gate.waiting)
        kit.lose(0)
        gate.open()
        kit.assign(0)
        kit.wait_acknowledged()
        assert kit.values == ["a left after 1"]
        assert kit.outcome().state["handler"] == {"b": 1}


class Visits(msgspec.Struct, frozen=True):
    """Events of a user since the last timer, and before it."""

    new: int = 0
    old: int = 0


@pytest.mark.parametrize("seed", range(30))
def test_each_event_is_counted_once_by_a_timer(seed: int) -> None:
    """After any number of crashes and rebalances; a timer is set exactly while there are new events."""
    chance = random.Random(seed)

    class Counting(Handler[dict, dict]):  # type: ignore[type-arg]  # plain types
        state_model = Visits

        async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
            if chance.random() < 0.1:
                await asyncio.sleep(chance.choice((0, 0.1, 3)))
            for message in messages:
                user = message.payload["user"]
                visits = self.state.get(user, Visits())
                self.state[user] = Visits(visits.new + 1, visits.old)
                self.state.set_timer(user, 5)
            return [message.task(precomputed=PrecomputedResult()) for message in messages if chance.random() < 0.5]

        async def on_timer(self, key: Any) -> Any:
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice((0, 0.1, 3)))
            visits = self.state[key]
            assert visits.new
            self.state[key] = Visits(0, visits.old + visits.new)
            return payload(f"{key} moved")

    with FlowHarness(Counting(), partitions=2) as kit:
        for _ in range(30):
            disturb(kit, chance, 2, lambda: kit.send({"user": chance.choice("aabc")}, partition=chance.randrange(2)))
        kit.let_commits_go()
        kit.wait_acknowledged()
        written = [(each.partition, kit.log.records[each.topic_partition][each.offset].value) for each in kit.sent]
        events = Counter((str(msgspec.json.decode(value)["user"]), partition) for partition, value in written)
        for (user, partition), number in events.items():
            visits = kit.state(user, step="handler", partition=partition)
            timer = kit.state(user, step="handler.timer", partition=partition)
            assert visits.old + visits.new == number
            assert (timer is not None) == (visits.new > 0)
        assert kit.dead_letters == []
