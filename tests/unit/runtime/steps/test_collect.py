"""The collect step: what a record's credit goes with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.runtime.steps.collect import CollectHooks, CollectStep
from drakkar_flow.runtime.steps.windows import TaskEnd, WindowRun
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from support.steps import Alone, context_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


async def collected(hooks: CollectHooks) -> tuple[list[int], list[int]]:
    """The shares that left with payloads and those that were returned, of one record with one task."""
    window = WindowRun([Record("in", 0, 0)], 0.0, keep_messages=True)
    run = window.attribute(ExecutorTask(task_id="t", source_offsets=[0]))
    run.end(TaskEnd.SUCCEEDED, result=ExecutorResult(task=run.task))
    context = context_of()
    collecting = Alone(CollectStep(context, hooks), context)
    collecting.put(window, run)
    await asyncio.sleep(0)  # answers go out at the end of the loop's turn
    chunk = collecting.take()
    deliveries: list[Delivery] = chunk.items
    left = [share for delivery in deliveries for _, share in delivery.tokens]
    return left, [ack.credit for ack in chunk.acks]


def payload(*_: Any) -> KafkaPayload:
    """A hook that sends something."""
    return KafkaPayload(data="x")


def nothing(*_: Any) -> None:
    """A hook that sends nothing."""


@pytest.mark.parametrize(
    "hooks", [(payload, None, None), (nothing, payload, None), (nothing, None, payload), (nothing, nothing, payload)]
)
async def test_all_credit_leaves_with_the_only_payload_of_a_records_last_hook(hooks: Any) -> None:
    """It comes back in one piece, which is what the tracker is quickest with."""
    assert await collected(CollectHooks("s", *hooks)) == ([FULL_CREDIT], [])


@pytest.mark.parametrize("hooks", [(payload, nothing, None), (payload, None, nothing), (None, payload, nothing)])
async def test_a_hook_that_others_follow_sends_a_share_only(hooks: Any) -> None:
    """The others may send something too; the rest returns when they have not."""
    left, returned = await collected(CollectHooks("s", *hooks))
    assert left == [1]
    assert returned == [FULL_CREDIT - 1]
