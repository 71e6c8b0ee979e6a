"""The brake and hooks that are called for a whole window: few calls fail, but for all records."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from drakkar_flow import DrakkarConfig, KafkaPayload, PendingContext, PostgresPayload
from drakkar_flow.errors import SinkMisconfigured
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.testing import FlowHarness, MemorySink, ScriptedExecutor, run_flow
from support.handlers import LANE, Unarranged, Unfinished, Words

BAD = "poison"
POISON = {
    "one in a hundred": [BAD if n % 100 == 50 else n for n in range(1000)],
    "one in ten": [BAD if n % 10 == 3 else n for n in range(1000)],
    "sixty in a row at the start": [BAD if n < 60 else n for n in range(1000)],
    "five hundred in a row among good ones": [BAD if 200 <= n < 700 else n for n in range(1000)],
    "one in the only window": [BAD, *range(99)],
    "the only one": [BAD],
}


def no_table(payloads: list[PostgresPayload]) -> None:
    """A target without the table."""
    raise SinkMisconfigured('relation "t" does not exist', "create the table t")


class Summing(Words):
    """A handler with one payload per window, which it can't make."""

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record]
    ) -> list[KafkaPayload]:
        return [
            KafkaPayload(
                data=message.value["n"]  # type: ignore[call-overload]  # the mistake
            )
            for message in source_messages
        ]


class Batching(Words):
    """A handler with one payload per window, which no sink takes."""

    async def on_task_complete(self, result: ExecutorResult) -> None:
        return None

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record]
    ) -> list[PostgresPayload]:
        return [PostgresPayload(table="t", data={"n": len(results)})]


FEW_CALLS: dict[str, tuple[type[Words], dict[str, Any]]] = {
    "arrange": (Unarranged, {}),
    "on_message_complete": (Unfinished, {}),
    "on_window_complete": (Summing, {}),
    "route of a window's payload": (Batching, {}),
    "sink of a window's payload": (
        Batching,
        {"sinks": [MemorySink("out"), MemorySink("main", kind="postgres", script=no_table)]},
    ),
}


@pytest.mark.parametrize("records", [100, 150])
@pytest.mark.parametrize("mistake", FEW_CALLS)
def test_a_mistake_in_a_topic_of_one_or_two_windows_stops_the_flow(mistake: str, records: int) -> None:
    """Few calls fail, but for all records: nothing is committed or written."""
    make, given = FEW_CALLS[mistake]
    with FlowHarness(make(), **given) as kit:
        kit.send_all(range(records))
        kit.wait_for(lambda: kit.failure)
        kit.finish()
        assert (kit.committed, kit.dead_letters) == ({}, [])


class Fragile(Words):
    """A handler whose arrange raises for bad values."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        assert all(message.value.decode() != BAD for message in messages), "bad value"
        return await super().arrange(messages, pending)


class FragileWindow(Words):
    """A handler whose on_window_complete raises for bad values."""

    async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
        assert all(message.value.decode() != BAD for message in source_messages), "bad value"


@pytest.mark.parametrize("share", POISON)
@pytest.mark.parametrize("handler", [Fragile, FragileWindow])
def test_bad_data_in_windows_does_not_stop_the_flow(handler: type[FragileWindow | Fragile], share: str) -> None:
    """One bad record makes its window fail: a hook that succeeds without it is no mistake."""
    config = DrakkarConfig(dlq={"max_ratio": 0})
    outcome = run_flow(handler(), POISON[share], config=config, executor=ScriptedExecutor(lambda task: ""))
    assert outcome.failure is None
    assert outcome.committed == {LANE: len(POISON[share])}


def test_an_arrange_that_needs_several_records_is_not_blamed_for_it() -> None:
    """A call for one record that fails for another cause says nothing."""

    class Pairing(Words):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> NoReturn:
            messages[1]
            raise ValueError("bad value")

    outcome = run_flow(Pairing(), range(150))
    assert (outcome.failure, len(outcome.dead_letters), outcome.committed) == (None, 2, {LANE: 150})


@pytest.mark.parametrize("handler", [Unarranged, Summing])
def test_a_mistake_stops_the_flow_however_many_records_the_hook_is_tried_on(
    handler: type[Unarranged | Summing],
) -> None:
    """Calls that do not wait end one inside of the other: not so deep that Python gives up."""
    config = DrakkarConfig(dlq={"stop_after": 500}, executor={"window_size": 500})
    kit = FlowHarness(handler(), config=config, executor=ScriptedExecutor(lambda task: "ok"))
    kit.send_all(range(6000))  # before the start, so that every window is full
    with kit:
        assert str(kit.wait_for(lambda: kit.failure)).startswith("the brake: ")
