"""State in a handler's hooks: of their partition, for all their records, counted when the hook returns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import CollectResult, Handler, KafkaPayload, PendingContext
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.errors import FlowError
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.testing import CRASH, FlowHarness, Gate, run_flow


class Seen(BaseModel):
    """State of a user."""

    count: int = 0


class Base(Handler[dict, dict]):  # type: ignore[type-arg]  # plain types
    """One task for each record; its result is delivered."""

    state_model = Seen

    def add(self, user: str, by: int = 1) -> int:
        """Count, and return the new number."""
        count: int = self.state.get(user, Seen()).count + by
        self.state[user] = Seen(count=count)
        return count

    async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
        """One task per record."""
        return [message.task(args=[message.payload["user"]]) for message in messages]


def payload(data: Any) -> CollectResult:
    """A payload for every sink."""
    return CollectResult(kafka=[KafkaPayload(data=data)])


def users(*names: str) -> list[dict[str, str]]:
    """One record per name."""
    return [{"user": name} for name in names]


class InArrange(Base):
    """Counts in arrange."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """The number goes to the program."""
        numbers = [self.add(message.payload["user"]) for message in messages]
        return [message.task(args=[str(number)]) for message, number in zip(messages, numbers, strict=True)]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """The number comes back."""
        return payload(result.task.args[0])


class InTask(Base):
    """Counts in on_task_complete."""

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """A hook that does not wait."""
        return payload(self.add(result.task.args[0]))


class InMessage(Base):
    """Counts in on_message_complete, which is a plain function here."""

    def on_message_complete(self, group: MessageGroup) -> Any:
        """A hook without `async`."""
        return payload(self.add(group.source_message.payload["user"]))


class InWindow(Base):
    """Counts in on_window_complete, after a wait."""

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record]
    ) -> list[CollectResult]:
        """Waits first."""
        await asyncio.sleep(1)
        return [payload(self.add(message.payload["user"])) for message in source_messages]


@pytest.mark.parametrize("handler", [InArrange, InTask, InMessage, InWindow])
def test_every_hook_counts_each_record_once_over_crashes(
    handler: type[InArrange | InMessage | InTask | InWindow],
) -> None:
    """The state is exact, whatever the windows were before the crash and after it."""
    values = [*users("a", "b", "a"), CRASH, *users("a"), CRASH, *users("b", "a")]
    outcome = run_flow(handler(), values)
    assert outcome.state == {"handler": {"a": {"count": 4}, "b": {"count": 2}}}
    assert outcome.committed == {("input", 0): 6}
    assert not outcome.dead_letters


def test_a_change_of_a_window_belongs_to_all_its_records() -> None:
    """While one of them is open, the change is not final for any: a crash repeats the whole window."""
    gate = Gate()
    gate.shut()

    class Handling(Base):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            self.add("all", len(messages))
            return await super().arrange(messages, pending)

        async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
            if result.task.args == ["slow"]:
                await gate.passage()
            return payload(result.task.args[0])

    config = {"executor": {"window_size": 3, "window_linger_s": 5}}
    with FlowHarness(Handling(), config=config) as kit:
        kit.send_all(users("a", "slow", "c"))
        kit.wait_for(lambda: kit.values == ["a", "c"])
        assert kit.state("all") is None
        kit.crash()
        assert kit.state("all") is None
        kit.restart()
        gate.open()
        kit.wait_acknowledged()
        assert kit.state("all") == Seen(count=3)


def test_a_hook_that_raises_or_returns_nonsense_changes_nothing() -> None:
    """Its records follow the error route."""

    class Handling(Base):
        async def on_task_complete(self, result: ExecutorResult) -> Any:
            self.add("x")
            if result.task.args == ["raise"]:
                raise ValueError("no")
            return 3 if result.task.args == ["nonsense"] else payload(1)

    outcome = run_flow(Handling(), users("raise", "nonsense", "good"))
    assert len(outcome.dead_letters) == 2
    assert outcome.state == {"handler": {"x": {"count": 1}}}


def test_trials_of_a_failing_hook_read_the_state_and_change_nothing() -> None:
    """The brake calls a hook again for single records, to tell a mistake from a bad record."""

    class Handling(Base):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            self.add("tried")
            if any(message.payload["user"] == "bad" for message in messages):
                raise ValueError("bad")
            return []

    config = {"executor": {"window_size": 40, "window_linger_s": 5}, "dlq": {"stop_after": 3}}
    outcome = run_flow(Handling(), users(*["good"] * 39, "bad"), config=from_mapping(config))
    assert [(len(letter.tokens), letter.refuted) for letter in outcome.dead_letters] == [(40, True)]
    assert outcome.state == {}


def test_what_a_hook_writes_it_reads_and_others_do_not_until_it_returns() -> None:
    """Two calls that read and write one key around an await: the second one fails, and no count is lost."""
    gate = Gate()
    gate.shut()
    seen: list[Any] = []

    class Handling(Base):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            if result.task.args == ["late"]:
                seen.append(("key" in self.state, self.state.get("key")))
                return
            self.add("key")
            seen.append(self.state["key"].count)
            await gate.passage()
            return

    with FlowHarness(Handling()) as kit:
        kit.send_all(users("one", "two"))
        kit.wait_for(lambda: gate.waiting == 2)
        kit.send_all(users("late"))
        kit.wait_for(lambda: len(seen) == 3)
        gate.open()
        kit.wait_acknowledged()
        assert seen == [1, 1, (False, None)]
        (letter,) = kit.dead_letters
        assert "key 'key'" in letter.error
        assert "another hook changed it meanwhile; read and write it after the last await" in letter.error
        assert kit.state("key") == Seen(count=1)


def test_deleting_and_missing_keys() -> None:
    """As in a dict."""
    found: list[Any] = []

    class Handling(Base):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            for message in messages:
                user = message.payload["user"]
                if user in self.state:
                    del self.state[user]
                    found.append((user in self.state, self.state.get(user)))
                else:
                    with pytest.raises(KeyError, match=user):
                        self.state[user]
                    with pytest.raises(KeyError, match=user):
                        del self.state[user]
                    self.state[user] = Seen()
            return []

    outcome = run_flow(Handling(), users("a", "b", "a"))
    assert found == [(False, None)]
    assert outcome.state == {"handler": {"b": {"count": 0}}}


def test_values_expire() -> None:
    """By `state_ttl_s`."""

    class Handling(InTask):
        state_ttl_s = 60

    with FlowHarness(Handling()) as kit:
        for pause in (59, 59, 61):
            kit.send_all(users("a"))
            kit.wait_acknowledged()
            kit.clock.advance(pause)
        kit.send_all(users("a"))
        kit.wait_acknowledged()
        assert kit.values == [1, 2, 3, 1]


def test_values_of_an_older_model_are_migrated() -> None:
    """By `state_migrate`."""

    class Newer(BaseModel):
        total: int

    class Handling(Base):
        state_model = Newer  # type: ignore[assignment]  # of a later version
        state_migrate = staticmethod(lambda old: Newer(total=old["count"]))  # type: ignore[assignment]  # of a later version

        async def on_task_complete(self, result: ExecutorResult) -> None:
            self.state["a"] = Newer(total=self.state["a"].total + 10)

    with FlowHarness(InTask()) as kit:
        kit.send_all(users("a"))
        kit.wait_acknowledged()
        kit.restart(Handling())
        kit.send_all(users("a"))
        kit.wait_acknowledged()
        assert kit.state("a") == Newer(total=11)


def test_offloaded_functions_use_the_state_of_their_hook() -> None:
    """A thread of the pool has the context of the hook."""

    class Handling(Base):
        async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
            return payload(await self.offload(self.add, "a"))

    assert run_flow(Handling(), users("a")).state == {"handler": {"a": {"count": 1}}}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"count": 1}, "state of the handler, key 'a', input:0:0: expected Seen, got dict"),
        (Seen.model_construct(count="x"), "Seen can't be stored as Seen"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_a_wrong_value_raises_where_it_is_assigned(value: dict[str, int] | Seen, error: str) -> None:
    """The line of the user's code is in the stack trace."""

    class Handling(Base):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            self.state["a"] = value

    (letter,) = run_flow(Handling(), users("a")).dead_letters
    assert error in letter.error
    assert "self.state[" in letter.stacktrace


def test_state_outside_of_a_hook_of_records_is_refused() -> None:
    """There are no records that it could belong to; nor after the hook has ended."""
    errors: list[str] = []
    kept: list[Any] = []

    class Handling(Base):
        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            with pytest.raises(RuntimeError) as info:
                self.state.get("a")
            errors.append(str(info.value))

        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            kept.append(self.state)
            return []

    run_flow(Handling(), users("a"))
    assert "Handling.state belongs to the records of a hook: use it in arrange" in errors[0]
    with pytest.raises(RuntimeError, match="the hook has ended"):
        kept[0].get("a")


def test_handlers_with_an_attribute_of_that_name_work_as_before() -> None:
    """Handlers of py-drakkar may have a `state`; without `state_model` there is none of ours."""

    class Old(Handler[dict, dict]):  # type: ignore[type-arg]  # plain types
        def __init__(self) -> None:
            assert not hasattr(self, "state")
            self.state = {"calls": 0}

        async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
            self.state["calls"] += 1
            return []

    class WithClassAttribute(Handler[dict, dict]):  # type: ignore[type-arg]  # plain types
        state = "ready"

        async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
            return []

    handler = Old()
    assert run_flow(handler, users("a")).state == {}
    assert handler.state == {"calls": 1}
    assert WithClassAttribute().state == "ready"


def test_a_model_that_can_not_be_stored_is_found_before_the_flow_runs() -> None:
    """With the name of the setting."""

    class Handling(Base):
        state_model = object  # type: ignore[assignment]  # wrong on purpose

    with pytest.raises(FlowError, match=r"Handling.state_model: state of type <class 'object'> can't be stored"):
        run_flow(Handling(), users("a"))
