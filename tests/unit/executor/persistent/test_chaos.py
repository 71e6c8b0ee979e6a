"""Children that do anything at any time: every task ends exactly once, and the pool works afterwards."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from support.processes import programs
from unit.executor.persistent.conftest import Pool, run_all, task

pytestmark = pytest.mark.anyio

Until = Callable[..., Awaitable[None]]

CHILD = """if True:
    import json, os, random, sys, time
    sys.stdin.readline()
    say = lambda text: (sys.stdout.write(text), sys.stdout.flush())
    can = ["cancel"] if random.random() < 0.5 else []
    say(json.dumps({"type": "ready", "version": 1, "max_in_flight": 4, "capabilities": can}) + "\\n")
    for line in sys.stdin:
        frame = json.loads(line)
        if frame["type"] == "cancel":
            continue
        answer = json.dumps({"id": frame["id"], "stdout": frame["stdin"]}) + "\\n"
        act = frame.get("labels", {}).get("act")
        if act == "exit":
            sys.exit(random.randrange(3))
        elif act == "half":
            say(answer[:9]); os._exit(0)
        elif act == "noise":
            say("noise\\n")
        elif act == "twice":
            say(answer * 2)
        elif act == "silence":
            pass
        elif act == "stop":
            os.kill(0, 19)
        elif act == "slow":
            time.sleep(0.05); say(answer)
        else:
            say(answer)
"""
ACTS = ["good"] * 60 + ["slow"] * 4 + ["exit", "half", "noise", "twice", "silence", "stop"]


async def test_every_task_ends_exactly_once_whatever_children_do(make_pool: Pool) -> None:
    """With cancellations between, timeouts, and successors that fail as well."""
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    pool = await make_pool(
        [sys.executable, "-S", "-c", CHILD],
        children=3,
        breaker_cooldown_s=0.01,
        executor={"task_timeout_seconds": 0.3, "kill_grace_s": 0.05},
    )
    ended: Counter[int] = Counter()
    outcomes: dict[int, TaskOutcome | None] = {}
    over = asyncio.get_running_loop().create_future()
    count = 200

    def hear(number: int, outcome: TaskOutcome | None) -> None:
        ended[number] += 1
        outcomes[number] = outcome
        if len(ended) == count:
            over.set_result(None)

    acts: dict[int, str] = {}
    for number in range(count):
        acts[number] = chance.choice(ACTS)
        labelled = task(f"{number}", labels={"act": acts[number]})
        running = pool.submit(labelled, chance.randrange(3), lambda outcome, number=number: hear(number, outcome))  # type: ignore[misc]  # mypy knows no lambda with a default here
        if chance.random() < 0.05:
            acts[number] = "cancelled"
            asyncio.get_running_loop().call_later(chance.random() / 10, running.cancel)
        if chance.random() < 0.1:
            await asyncio.sleep(0.01)
    await over
    await check_afterwards(pool, ended, outcomes, acts)


async def check_afterwards(
    pool: Any, ended: Counter[int], outcomes: dict[int, TaskOutcome | None], acts: dict[int, str]
) -> None:
    """Nobody heard twice or got another's answer; nothing is left in the pool's books."""
    assert set(ended.values()) == {1}
    for number, outcome in outcomes.items():
        if isinstance(outcome, ExecutorResult):
            assert outcome.stdout == str(number)
            assert acts[number] not in {"exit", "half", "silence", "stop"}
        elif isinstance(outcome, ExecutorError):
            assert outcome.kind in {"crash", "protocol", "timeout"}
            assert outcome.exception
        else:
            assert acts[number] == "cancelled"
    assert pool.statistics().waiting == 0
    assert pool.statistics().ended == len(outcomes)
    results = [await run(pool, task(f"after {number}")) for number in range(3)]
    assert any(isinstance(result, ExecutorResult) for result in results)


async def test_many_crashes_leave_nothing_behind(make_worker: Pool, until: Until) -> None:
    """Descriptors and processes do not grow with the number of lives."""
    pool = await make_worker("crash_after_n", 1, max_in_flight_per_child=1)
    us = psutil.Process()
    await run_all(pool, *map(str, range(4)))
    await until(lambda: any(child.capacity for child in pool.children), "another life")
    before = us.num_fds()
    outcomes = await run_all(pool, *map(str, range(40)))
    assert sum(isinstance(outcome, ExecutorError) for outcome in outcomes) == 20
    await until(lambda: any(child.capacity for child in pool.children), "another life")
    assert us.num_fds() <= before
    assert len(programs()) <= 1
