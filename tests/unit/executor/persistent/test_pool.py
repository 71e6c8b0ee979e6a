"""Tasks and the children that do them, when all is well."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from drakkar_flow.errors import ExecutorClosed, StartupError
from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.executor.persistent.pool import PersistentExecutor
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ChildEnded, ChildLogged, ChildStarted
from drakkar_flow.observe.events.tasks import TasksCompleted, TasksStarted
from support.processes import programs
from unit.executor.persistent.conftest import Pool, of, run_all, task

pytestmark = pytest.mark.anyio

Until = Callable[..., Awaitable[None]]


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
async def test_one_child_does_many_tasks(make_worker: Pool, framing: str, events: list[Event]) -> None:
    """The same process answers them all, whatever the framing, text and bytes."""
    pool = await make_worker("good", framing=framing)
    results = await run_all(pool, *(f"input {number} \N{SNOWMAN}" for number in range(50)))
    assert [result.stdout for result in results] == [f"input {number} \N{SNOWMAN}" for number in range(50)]
    assert len({result.pid for result in results}) == 1
    assert [event.child for event in of(ChildStarted, events)] == [0]


async def test_what_a_child_reports_becomes_the_outcome(make_pool: Pool) -> None:
    """Exit code and stderr are those of the answer; another code than 0 is a failure."""
    script = """if True:
        import json, sys
        from functools import partial
        say = partial(print, flush=True)
        sys.stdin.readline()
        say(json.dumps({"type": "ready", "version": 1}))
        for line in sys.stdin:
            task = json.loads(line)
            say(json.dumps({"id": task["id"], "exit_code": int(task["stdin"]), "stderr": str(task["args"])}))
    """
    pool = await make_pool([sys.executable, "-c", script])
    good = await run(pool, task("0", args=["-a"]))
    bad = await run(pool, task("3"))
    assert isinstance(good, ExecutorResult)
    assert (good.stderr, good.pid) == ("['-a']", bad.pid)
    assert isinstance(bad, ExecutorError)
    assert (bad.kind, bad.exit_code, bad.stderr) == ("nonzero_exit", 3, "[]")


async def test_answers_may_come_in_any_order(make_worker: Pool) -> None:
    """Each task gets its own answer, several being under way in one child."""
    pool = await make_worker("out_of_order", 4)
    assert pool.statistics().slots == 4
    results = await run_all(pool, *map(str, range(8)))
    assert [result.stdout for result in results] == list(map(str, range(8)))


async def test_a_child_gets_no_more_than_it_can_take(make_worker: Pool, until: Until) -> None:
    """What is more waits; the configuration may allow less than the child."""
    pool = await make_worker("silent", max_in_flight_per_child=3)
    for number in range(5):
        pool.submit(task(str(number)), 0, lambda _: None)
    assert pool.statistics() == (3, 2, 3, 0)


async def test_tasks_are_spread_over_the_children(make_worker: Pool) -> None:
    """Two slow children take turns."""
    pool = await make_worker("slow_answers", 0.05, children=2)
    results = await run_all(pool, *map(str, range(4)))
    assert len({result.pid for result in results}) == 2


async def test_a_task_goes_to_the_child_that_has_the_least_to_do(make_worker: Pool) -> None:
    """Though either could take them all."""
    pool = await make_worker("silent", children=2)
    for number in range(4):
        pool.submit(task(str(number)), 0, lambda _: None)
    assert [len(child.in_flight) for child in pool.children] == [2, 2]


async def test_waiting_tasks_start_by_priority(make_worker: Pool) -> None:
    """Then in the order they came; what has begun is not interrupted."""
    pool = await make_worker("good")
    ended: list[str] = []
    over = asyncio.get_running_loop().create_future()

    def done(name: str) -> Callable[[TaskOutcome | None], None]:
        def note(_: TaskOutcome | None) -> None:
            ended.append(name)
            if len(ended) == 4:
                over.set_result(None)

        return note

    for name, priority in (("first", 9), ("late", 5), ("soon", 1), ("soon too", 1)):
        pool.submit(task(name), priority, done(name))
    await over
    assert ended == ["first", "soon", "soon too", "late"]


async def test_a_priority_that_can_not_be_compared_is_an_error_of_its_task(make_worker: Pool) -> None:
    """The others are none the worse."""
    pool = await make_worker("silent", max_in_flight_per_child=1)
    for _ in range(2):
        pool.submit(task(), 1, lambda _: None)
    outcome = await run(pool, task(), priority="high")
    assert isinstance(outcome, ExecutorError)
    assert (outcome.kind, pool.statistics().waiting) == ("internal", 1)


async def test_precomputed_tasks_need_no_child(make_worker: Pool) -> None:
    """They are answered while every child is busy."""
    pool = await make_worker("silent", max_in_flight_per_child=1)
    pool.submit(task(), 0, lambda _: None)
    outcome = await run(pool, task(precomputed=PrecomputedResult(stdout="hit")))
    assert isinstance(outcome, ExecutorResult)
    assert outcome.stdout == "hit"


async def test_a_task_that_waits_can_be_given_up(make_worker: Pool, events: list[Event]) -> None:
    """It never reaches a child."""
    pool = await make_worker("silent", max_in_flight_per_child=1)
    heard: list[Any] = []
    pool.submit(task("a"), 0, heard.append)
    waiting = pool.submit(task("b"), 0, heard.append)
    waiting.cancel()
    waiting.cancel()
    assert (heard, pool.statistics()[:2]) == ([None], (1, 0))


async def test_a_task_that_runs_can_be_given_up(make_worker: Pool) -> None:
    """Nobody hears of its late answer, and the child goes on."""
    pool = await make_worker("slow_answers", 0.1)
    heard: list[Any] = []
    pool.submit(task("a"), 0, heard.append).cancel()
    assert heard == [None]
    result = await run(pool, task("b"))
    assert isinstance(result, ExecutorResult)
    assert (result.stdout, heard) == ("b", [None])


async def test_large_tasks_and_answers_pass(make_worker: Pool) -> None:
    """More than a pipe holds, several at once, in both directions."""
    pool = await make_worker("good", framing="length-prefixed", children=2)
    big = "\N{SNOWMAN}" * 1_000_000
    results = await run_all(pool, *[big] * 4)
    assert [result.stdout == big for result in results] == [True] * 4


async def test_output_is_cut_at_the_same_caps_as_a_programs(make_worker: Pool) -> None:
    """Between characters, and flagged."""
    pool = await make_worker("good", executor={"max_stdout_bytes": 4})
    (result,) = await run_all(pool, "\N{SNOWMAN}" * 2)
    assert (result.stdout, result.stdout_truncated) == ("\N{SNOWMAN}", True)


async def test_what_a_child_writes_to_stderr_is_logged(make_pool: Pool, events: list[Event], until: Until) -> None:
    """Line by line, and never part of an answer."""
    pool = await make_pool(["sh", "-c", "echo hello >&2; echo there >&2; exec cat"], protocol="lines")
    assert [result.stdout for result in await run_all(pool, "x")] == ["x\n"]
    await until(lambda: sum((event.lines for event in of(ChildLogged, events)), ()) == ("hello", "there"))


async def test_a_turn_of_the_loop_costs_one_event(make_pool: Pool, events: list[Event]) -> None:
    """Tasks that end well are counted together; those that fail have an event each."""
    pool = await make_pool(["cat"], protocol="lines")
    await run_all(pool, *map(str, range(4)))
    await asyncio.sleep(0)
    assert [event.count for event in of(TasksStarted, events)] == [4]
    assert [len(event.durations_s) for event in of(TasksCompleted, events)] == [4]


# --- the end ------------------------------------------------------------------------------------


async def test_idle_children_end_by_themselves(make_worker: Pool, events: list[Event]) -> None:
    """Their stdin is closed, they exit with 0, and nobody is to blame."""
    pool = await make_worker("good", children=2)
    await pool.close()
    assert [event.failed for event in of(ChildEnded, events)] == [False, False]
    assert all("exit code 0" in event.reason for event in of(ChildEnded, events))


async def test_a_child_that_does_not_end_is_killed(make_worker: Pool, events: list[Event]) -> None:
    """After the grace, whatever signals it ignores."""
    pool = await make_worker("ignores_the_end", close_grace_s=0.05)
    await pool.close()
    assert "SIGKILL" in of(ChildEnded, events)[0].reason


async def test_closing_gives_up_what_runs_and_waits(make_worker: Pool) -> None:
    """Their callers hear that nothing came of them, at once and once only."""
    pool = await make_worker("silent", max_in_flight_per_child=1)
    calls = [asyncio.create_task(run(pool, task(str(number)))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.gather(pool.close(), pool.close())
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ExecutorClosed] * 3
    assert pool.statistics()[:2] == (0, 0)
    with pytest.raises(ExecutorClosed):
        await run(pool, task())


async def test_a_pool_that_was_not_started_takes_no_tasks() -> None:
    """Nor does closing it need anything."""
    from drakkar_flow.config.sections.executor import ExecutorConfig
    from drakkar_flow.observe.bus import Bus

    pool = PersistentExecutor(ExecutorConfig(binary_path="cat"), Bus())
    with pytest.raises(ExecutorClosed):
        await run(pool, task())
    await pool.close()


# --- the start ----------------------------------------------------------------------------------

STARTS = {
    "crash_loop": "exit code 3 before it was ready; its stderr ended with: no licence found",
    "refuses": "refused the handshake: the model file is missing",
    "wrong_version": "speaks version 99",
    "no_handshake": "not ready within 0.3 s: it did not answer the handshake",
    "stdout_noise_before_ready": "Loading the model",
}


@pytest.mark.parametrize("name", STARTS)
async def test_a_start_that_fails_says_why(make_worker: Pool, name: str) -> None:
    """With what the child said last."""
    with pytest.raises(StartupError, match=STARTS[name]):
        await make_worker(name, start_timeout_s=0.3 if name == "no_handshake" else 10)
    assert programs() == []


async def test_every_child_is_warm_before_the_first_task(make_worker: Pool) -> None:
    """A start is over when all are ready."""
    pool = await make_worker("good", children=3)
    assert [child.capacity for child in pool.children] == [1, 1, 1]


@pytest.mark.parametrize(
    ("program", "why"),
    [(["no-such-program"], "no program 'no-such-program'"), (["/etc/passwd"], "not a program that can be run")],
)
async def test_a_program_that_is_not_there_is_a_matter_of_configuration(
    make_pool: Pool, program: list[str], why: str
) -> None:
    """Exit code 2, as for any other wrong key."""
    with pytest.raises(StartupError, match=why) as caught:
        await make_pool(program)
    assert caught.value.exit_code == 2


async def test_without_a_program_there_are_no_children() -> None:
    """The key is named."""
    from drakkar_flow.config.sections.executor import ExecutorConfig
    from drakkar_flow.observe.bus import Bus

    with pytest.raises(StartupError, match=r"executor\.binary_path: no program for the children"):
        await PersistentExecutor(ExecutorConfig(), Bus()).start()
