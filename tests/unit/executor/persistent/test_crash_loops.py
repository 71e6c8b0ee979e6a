"""Children that fail again and again: pauses that grow, and the breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.executor.base import run
from drakkar_flow.executor.persistent import child_supervisor
from drakkar_flow.executor.persistent.pool import PersistentExecutor
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ChildEnded, ChildStarted, ExecutorBreakerChanged
from drakkar_flow.observe.events.tasks import TaskFellBack
from support.processes import programs
from unit.executor.persistent.conftest import Later, Pool, error_of, of, run_all, task

pytestmark = pytest.mark.anyio

Until = Callable[..., Awaitable[None]]


@pytest.fixture
def make_looping(make_pool: Pool, tmp_path: Path) -> Callable[..., Awaitable[PersistentExecutor]]:
    """Make a pool of one `cat` that fails at its start, from the second on, while `tmp_path/broken` is there."""

    async def make(**keys: Any) -> PersistentExecutor:
        script = f"test -e {tmp_path}/broken && {{ echo broken >&2; exit 3; }}; exec cat"
        keys = {"protocol": "lines", "breaker_failures": 3, "breaker_cooldown_s": 0.05} | keys
        pool = await make_pool(["sh", "-c", script], **keys)
        (tmp_path / "broken").touch()
        programs()[0].kill()
        return pool

    return make


def states(events: list[Event]) -> list[str]:
    """What the breaker went through."""
    return [event.state for event in of(ExecutorBreakerChanged, events)]


async def test_a_crash_loop_opens_the_breaker_and_a_probe_closes_it(
    make_looping: Pool, events: list[Event], until: Until, tmp_path: Path
) -> None:
    """It says why; tasks wait meanwhile, and nothing is lost."""
    pool = await make_looping()
    await until(lambda: "half_open" in states(events))
    assert states(events)[:2] == ["open", "half_open"]
    assert "exit code 3" in of(ExecutorBreakerChanged, events)[0].reason
    assert "ended with: broken" in of(ExecutorBreakerChanged, events)[0].reason
    waiting = asyncio.create_task(run_all(pool, *map(str, range(9))))
    await until(lambda: states(events).count("half_open") >= 3)
    (tmp_path / "broken").unlink()
    assert [outcome.stdout for outcome in await waiting] == [f"{number}\n" for number in range(9)]
    assert states(events)[-1] == "closed"


async def test_the_pause_grows_with_each_life_in_a_row_without_an_answer(
    make_looping: Pool, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the breaker thinks of it."""
    attempts: list[int] = []

    class Noting:
        def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
            attempts.append(attempt)
            return 0.0

    monkeypatch.setattr(child_supervisor, "Backoff", lambda *_: Noting())
    await make_looping(breaker_failures=100)
    await until(lambda: len(attempts) >= 4)
    assert attempts[:4] == [1, 2, 3, 4]


async def test_a_probe_that_only_ran_out_of_time_is_followed_by_another(
    make_pool: Pool, events: list[Event], until: Until, tmp_path: Path, later: Later
) -> None:
    """It says nothing of whether children work, so the breaker must not wait for its word."""
    script = f"test -e {tmp_path}/broken && exit 3; test -e {tmp_path}/hangs && exec sleep 1000; exec cat"
    keys = {"protocol": "lines", "breaker_failures": 1, "breaker_cooldown_s": 0.05}
    pool = await make_pool(["sh", "-c", script], {"task_timeout_seconds": 100}, **keys)
    (tmp_path / "broken").touch()
    programs()[0].kill()
    await until(lambda: "half_open" in states(events))
    (tmp_path / "hangs").touch()
    (tmp_path / "broken").unlink()
    hung = asyncio.create_task(run(pool, task("hung")))
    await until(lambda: pool.statistics().running == 1)
    (tmp_path / "hangs").unlink()
    later.let_pass(110, pool)
    assert error_of(await hung).kind == "timeout"
    assert (await asyncio.wait_for(run(pool, task()), 20)).stdout == "x\n"
    assert states(events)[-1] == "closed"


async def test_all_children_come_back_once_a_probe_has_worked(
    make_pool: Pool, events: list[Event], until: Until, tmp_path: Path
) -> None:
    """Those that waited for the breaker are started, too."""
    script = f"test -e {tmp_path}/broken && exit 3; exec cat"
    keys = {"protocol": "lines", "breaker_failures": 3, "breaker_cooldown_s": 0.05}
    pool = await make_pool(["sh", "-c", script], {"max_executors": 3}, **keys)
    (tmp_path / "broken").touch()
    for child in programs():
        child.kill()
    await until(lambda: states(events).count("half_open") >= 2)
    (tmp_path / "broken").unlink()
    assert (await run(pool, task())).stdout == "x\n"
    await until(lambda: len(programs()) == 3)


async def test_children_that_end_with_0_and_did_nothing_are_a_crash_loop(
    make_pool: Pool, events: list[Event], until: Until, tmp_path: Path
) -> None:
    """Such as a program that only prints its usage: it would be started again and again."""
    script = f"test -e {tmp_path}/broken && exit 0; exec cat"
    await make_pool(["sh", "-c", script], protocol="lines", breaker_failures=3)
    (tmp_path / "broken").touch()
    programs()[0].kill()
    await until(lambda: states(events) == ["open"])
    assert len(of(ChildStarted, events)) == 3


async def test_a_worker_that_dies_of_its_first_task_gets_one_at_a_time(make_worker: Pool, events: list[Event]) -> None:
    """After the first failure, though it could take four."""
    pool = await make_worker("crash_after_n", 0, breaker_cooldown_s=0.01)
    outcomes = await run_all(pool, *map(str, range(7)))
    assert {error_of(outcome).kind for outcome in outcomes} == {"crash"}
    assert [event.requests for event in of(ChildEnded, events)] == [4, 1, 1, 1]


async def test_in_a_crash_loop_each_probe_costs_one_request_at_most(make_pool: Pool, events: list[Event]) -> None:
    """A child that dies of its first task gets one only, though it could take 64."""
    pool = await make_pool(["sh", "-c", "read line; exit 3"], protocol="lines", breaker_cooldown_s=0.01)
    outcomes = await run_all(pool, *map(str, range(70)))
    assert {error_of(outcome).kind for outcome in outcomes} == {"crash"}
    assert [event.requests for event in of(ChildEnded, events)] == [64, 1, 1, 1, 1, 1, 1]


async def test_with_patience_tasks_fail_when_no_child_runs_for_long(
    make_looping: Pool, until: Until, events: Any
) -> None:
    """`unavailable_after_s` bounds how long a task waits."""
    pool = await make_looping(breaker_cooldown_s=20.0, unavailable_after_s=0.1)
    await until(lambda: states(events) == ["open"])
    outcome = error_of(await run(pool, task()))
    assert (outcome.kind, outcome.exception) == ("unavailable", "no child was ready for 0.1 s")


async def test_the_patience_of_a_task_does_not_count_the_time_it_waited_for_a_busy_child(
    make_pool: Pool, until: Until, events: list[Event], tmp_path: Path, later: Later
) -> None:
    """It begins when no child runs any more."""
    script = f"test -e {tmp_path}/broken && exit 3; exec sleep 1000"
    keys = {"max_in_flight_per_child": 1, "breaker_cooldown_s": 20.0, "unavailable_after_s": 10.0}
    pool = await make_pool(["sh", "-c", script], protocol="lines", **keys)

    def let_pass(seconds: float) -> None:
        later.let_pass(seconds, pool)
        pool.keep_house()

    outcomes = [asyncio.create_task(run(pool, task(name))) for name in ("first", "waits")]
    await until(lambda: pool.statistics()[:2] == (1, 1))
    let_pass(15.0)
    (tmp_path / "broken").touch()
    programs()[0].kill()
    await until(lambda: states(events) == ["open"])
    let_pass(5.0)
    assert pool.statistics()[:2] == (0, 1)
    let_pass(10.0)
    assert [error_of(await outcome).kind for outcome in outcomes] == ["crash", "unavailable"]


async def test_with_the_fall_back_tasks_are_run_one_by_one_while_the_breaker_is_open(
    make_pool: Pool, events: list[Event], until: Until, tmp_path: Path
) -> None:
    """By the same command line; those that waited, too. The outcome's task is the one that was given."""
    script = f"test -e {tmp_path}/broken && {{ read line; echo one-shot $line; exit 3; }}; exec cat"
    pool = await make_pool(
        ["sh", "-c", script],
        protocol="lines",
        fallback_oneshot=True,
        breaker_failures=1,
        breaker_cooldown_s=20.0,
    )
    (tmp_path / "broken").touch()
    programs()[0].kill()
    await until(lambda: states(events) == ["open"])
    given = task("a")
    outcome = await run(pool, given)
    assert isinstance(outcome, ExecutorError)
    assert (outcome.stdout, outcome.exit_code, outcome.task) == ("one-shot a\n", 3, given)
    assert "breaker is open" in of(TaskFellBack, events)[0].reason
