"""Children that are replaced in time: none of their requests is lost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from drakkar_flow.executor.persistent import pool as pool_module
from drakkar_flow.model.task import ExecutorResult
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ChildEnded, ChildStarted
from unit.executor.persistent.conftest import Pool, of, run_all

pytestmark = pytest.mark.anyio

Until = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _quick_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Age and memory are looked at often."""
    monkeypatch.setattr(pool_module, "HOUSEKEEPING_S", 0.01)


async def test_after_so_many_requests_a_child_is_replaced(make_pool: Pool, events: list[Event]) -> None:
    """It answers what it has, ends by itself, and nobody is to blame."""
    pool = await make_pool(["cat"], protocol="lines", recycle_after_requests=10)
    outcomes = await run_all(pool, *map(str, range(35)))
    assert [outcome.stdout for outcome in outcomes] == [f"{number}\n" for number in range(35)]
    await pool.close()
    assert [event.requests for event in of(ChildEnded, events)] == [10, 10, 10, 5]
    assert not any(event.failed for event in of(ChildEnded, events))


async def test_children_do_not_reach_their_last_request_together(make_pool: Pool, events: list[Event]) -> None:
    """The first lives are of different lengths, so there is always somebody to do the work."""
    pool = await make_pool(["cat"], {"max_executors": 4}, protocol="lines", recycle_after_requests=100)
    outcomes = await run_all(pool, *map(str, range(2000)))
    assert all(isinstance(outcome, ExecutorResult) for outcome in outcomes)
    await pool.close()
    lives: dict[int, list[int]] = {}
    for event in of(ChildEnded, events):
        lives.setdefault(event.child, []).append(event.requests)
    assert [lives[number][0] for number in range(4)] == [25, 50, 75, 100]
    assert {requests for life in lives.values() for requests in life[1:-1]} == {100}


@pytest.mark.parametrize("rule", [{"recycle_after_s": 0.01}, {"recycle_above_mib": 0.01}])
async def test_children_that_are_due_together_are_replaced_one_after_the_other(
    make_pool: Pool, events: list[Event], until: Until, rule: dict[str, float]
) -> None:
    """The next one goes when the successor is ready."""
    await make_pool(["cat"], {"max_executors": 3}, protocol="lines", **rule)
    await until(lambda: len(of(ChildStarted, events)) >= 9)
    assert [type(event) for event in events[:9]] == [ChildStarted] * 3 + [ChildEnded, ChildStarted] * 3


async def test_an_old_child_is_replaced_whether_it_is_asked_or_not(
    make_pool: Pool, events: list[Event], until: Until
) -> None:
    """By its age alone."""
    await make_pool(["cat"], protocol="lines", recycle_after_s=0.05)
    await until(lambda: len(of(ChildEnded, events)) == 2)
    assert [event.lived_s >= 0.05 for event in of(ChildEnded, events)] == [True, True]


async def test_a_child_that_grew_too_large_is_replaced(make_worker: Pool, events: list[Event], until: Until) -> None:
    """Its resident memory is looked at; what it is working on is answered first."""
    pool = await make_worker("leaks_memory", 16, recycle_above_mib=50)
    deadline = time.monotonic() + 10
    while not of(ChildEnded, events):
        (outcome,) = await run_all(pool, "x")
        assert isinstance(outcome, ExecutorResult)
        assert time.monotonic() < deadline
    await until(lambda: len(of(ChildStarted, events)) > len(of(ChildEnded, events)))
    assert of(ChildEnded, events)[0].requests >= 3
    assert not any(event.failed for event in of(ChildEnded, events))
