"""Ordering of map_async: calls of one key, or of one partition, follow each other in the order of their offsets."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from drakkar_flow import Record, StreamFlow
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.testing import run_flow
from support.handlers import LANE, keyed


def test_map_async_keeps_the_order_of_keys_within_its_bound() -> None:
    """Calls of one key follow each other, those of others run beside, never more than may."""
    running: list[str] = []
    most = 0
    chance = random.Random(7)

    async def call(offset: int, record: Record) -> int:
        nonlocal most
        key = str(record.key)
        assert key not in running
        running.append(key)
        most = max(most, len(running))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        running.remove(key)
        return offset

    keys = "".join(chance.choices("abcdefgh", k=300))
    chain = StreamFlow("calls").decode(int).map_async(call, max_in_flight=5, with_record=True, ordering="key").route()
    outcome = run_flow(chain, keyed(keys))
    assert most == 5
    assert outcome.committed == {LANE: 300}
    for key in "abcdefgh":
        delivered = [offset for offset in outcome.values if keys[offset] == key]
        assert delivered == [offset for offset in range(300) if keys[offset] == key]


def test_map_async_orders_a_partition_and_goes_on_past_a_failure() -> None:
    """One call at a time; one that fails makes room for the next."""

    async def call(n: int) -> int:
        await asyncio.sleep(0)
        return 6 // n

    chain = StreamFlow("calls").decode(int).map_async(call, ordering="partition").route()
    outcome = run_flow(chain, [1, 0, 2, 3])
    assert outcome.values == [6, 3, 2]
    assert len(outcome.dead_letters) == 1
    assert outcome.committed == {LANE: 4}


def test_map_async_with_a_key_that_is_not_to_be_had_fails_that_record() -> None:
    """It follows the error route; the others are not held up."""

    async def call(n: int) -> int:
        return n

    chain = StreamFlow("calls").decode(int).map_async(call, key=lambda record: 1 // record.payload).route()
    outcome = run_flow(chain, [0, 1, 2])
    assert outcome.values == [1, 2]
    (letter,) = outcome.dead_letters
    assert letter.kind is FailureKind.BUSINESS
    assert outcome.committed == {LANE: 3}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"ordering": "sometimes"}, "there is no ordering 'sometimes'; use one of unordered, key, partition"),
        ({"ordering": "partition", "key": len}, "its key has no meaning with ordering 'partition'; use ordering='key'"),
        ({"key": "id"}, "'id' can't be called"),
    ],
)
def test_orderings_that_make_no_sense_are_told_before_anything_runs(given: dict[str, Any], problem: str) -> None:
    """For execute and for map_async."""

    async def call(n: int) -> int:
        return n

    calls = StreamFlow("calls").map_async(call, **given).route()
    tasks = StreamFlow("tasks").arrange(lambda messages, _: []).execute(**given).collect().route()
    for chain in (calls, tasks):
        assert [problem in str(found) for found in chain.problems()] == [True]
