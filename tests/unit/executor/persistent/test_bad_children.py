"""Children that misbehave: each costs the requests it had, with a reason, and is replaced."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from drakkar_flow.executor.base import run
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ChildEnded, ChildLogged, ChildStarted
from unit.executor.persistent.conftest import Later, Pool, error_of, of, run_all, task

pytestmark = pytest.mark.anyio

Until = Callable[..., Awaitable[None]]

BREAKS = {
    "bad_frame": ("protocol", "nonsense"),
    "wrong_id": ("protocol", "request 1001, which it was never given"),
    "half_frame_at_exit": ("crash", "exit code 0 in the middle of an answer"),
    "flood": ("protocol", "bytes"),
    "closes_stdout": ("protocol", "closed its stdin or stdout and went on"),
}

CANCELS = """if True:
    import json, sys
    sys.stdin.readline()
    say = lambda **fields: print(json.dumps(fields), flush=True)
    say(type="ready", version=1, max_in_flight=2, capabilities=["cancel"])
    for line in sys.stdin:
        frame = json.loads(line)
        if frame["type"] == "cancel":
            say(id=frame["id"], exit_code=1)
        elif frame["stdin"] == "quick":
            say(id=frame["id"], stdout="quick")
"""


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
@pytest.mark.parametrize("name", BREAKS)
async def test_a_broken_protocol_costs_the_request_and_says_why(
    make_worker: Pool, name: str, framing: str, until: Until, events: list[Event]
) -> None:
    """The child is killed and another takes its place."""
    kind, reason = BREAKS[name]
    pool = await make_worker(name, framing=framing, max_frame_bytes=100_000)
    outcome = await run(pool, task())
    assert isinstance(outcome, ExecutorError)
    assert outcome.kind == kind
    assert reason in (outcome.exception or "")
    assert (outcome.executor, outcome.command[0]) == ("persistent", sys.executable)
    await until(lambda: len(of(ChildStarted, events)) == 2)
    assert [event.failed for event in of(ChildEnded, events)] == [True]
    assert outcome.pid == of(ChildEnded, events)[0].pid


async def test_noise_on_stdout_is_shown(make_worker: Pool) -> None:
    """The author of a forgotten print finds it."""
    pool = await make_worker("stdout_noise_between")
    outcome = await run(pool, task())
    assert isinstance(outcome, ExecutorError)
    assert "got one" in (outcome.exception or "")


async def test_a_second_answer_kills_the_child_but_not_what_was_answered(
    make_worker: Pool, events: list[Event]
) -> None:
    """The first answer counts."""
    pool = await make_worker("duplicate_id")
    result = await run(pool, task("a"))
    assert isinstance(result, ExecutorResult)
    outcome = await run(pool, task("b"))
    assert isinstance(outcome, ExecutorResult | ExecutorError)
    assert "answered request 1 a second time" in of(ChildEnded, events)[0].reason


async def test_a_crash_costs_what_was_under_way_in_that_child_only(make_worker: Pool, until: Until) -> None:
    """What it had answered counts, what waits goes to its successor."""
    pool = await make_worker("crash_after_n", 3, max_in_flight_per_child=1)
    outcomes = await run_all(pool, *map(str, range(8)))
    failures = [outcome for outcome in outcomes if isinstance(outcome, ExecutorError)]
    assert [outcome.kind for outcome in failures] == ["crash"] * 2
    assert all("was killed by SIGKILL with a request" in (outcome.exception or "") for outcome in failures)
    assert [outcome.stdout for outcome in outcomes] == ["0", "1", "2", "", "4", "5", "6", ""]


async def test_the_last_words_of_a_child_are_told(make_pool: Pool) -> None:
    """A crash without its stderr is a riddle."""
    pool = await make_pool(["sh", "-c", "read line; echo 'out of cheese' >&2; exit 4"], protocol="lines")
    outcome = await run(pool, task())
    assert isinstance(outcome, ExecutorError)
    assert outcome.exception == ("child 0 ended with exit code 4 with a request; its stderr ended with: out of cheese")


async def test_a_last_line_without_an_end_is_logged(make_pool: Pool, events: list[Event], until: Until) -> None:
    """Many a program that gives up writes one."""
    pool = await make_pool(["sh", "-c", "read line; printf 'out of cheese' >&2; exit 4"], protocol="lines")
    await run(pool, task())
    await until(lambda: of(ChildEnded, events))
    assert [event.lines for event in of(ChildLogged, events)] == [("out of cheese",)]


async def test_a_child_that_met_a_limit_is_told_so(make_pool: Pool) -> None:
    """Its limits are those of the section above, over its whole life."""
    script = ["sh", "-c", "read line; while :; do :; done"]
    pool = await make_pool(script, protocol="lines", executor={"limits": {"cpu_s": 1}})
    outcome = await run(pool, task())
    assert isinstance(outcome, ExecutorError)
    assert "was killed by SIGXCPU, for it reached executor.limits.cpu_s (1), with a request" in str(outcome.exception)


@pytest.mark.parametrize("name", ["stops_itself", "silent"])
async def test_a_request_that_is_never_answered_times_out(make_worker: Pool, name: str, events: list[Event]) -> None:
    """A child that stopped its own group is killed like one that says nothing."""
    pool = await make_worker(
        name, executor={"task_timeout_seconds": 0.1, "kill_grace_s": 0.05}, max_in_flight_per_child=1
    )
    outcome = await run(pool, task())
    assert isinstance(outcome, ExecutorError)
    assert (outcome.kind, outcome.exception, outcome.stderr) == ("timeout", "Timeout after 0.1s", "task timed out")
    after = await run(pool, task())
    assert after.pid != outcome.pid
    assert [event.failed for event in of(ChildEnded, events)] == [False]


async def test_others_are_let_finish_when_one_request_times_out(
    make_pool: Pool, events: list[Event], until: Until, later: Later, tmp_path: Path
) -> None:
    """The child gets nothing new and is killed when the others have ended."""
    script = """if True:
        import json, os, sys, time
        sys.stdin.readline()
        print(json.dumps({"type": "ready", "version": 1, "max_in_flight": 2}), flush=True)
        sys.stdin.readline()
        second = json.loads(sys.stdin.readline())
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.001)
        print(json.dumps({"id": second["id"], "stdout": "in time"}), flush=True)
        time.sleep(1000)
    """
    signal = tmp_path / "go"
    pool = await make_pool([sys.executable, "-c", script, str(signal)], executor={"task_timeout_seconds": 100})
    late = asyncio.create_task(run(pool, task("late")))
    await until(lambda: pool.statistics().running == 1)
    later.let_pass(60, pool)
    second = asyncio.create_task(run(pool, task("second")))
    await until(lambda: pool.statistics().running == 2)
    later.let_pass(60, pool)
    assert error_of(await late).kind == "timeout"
    signal.touch()
    result = await second
    assert isinstance(result, ExecutorResult)
    assert result.stdout == "in time"
    third = pool.submit(task("third"), 0, lambda _: None)
    assert pool.statistics().waiting == 1
    await until(lambda: len(of(ChildStarted, events)) == 2)
    assert [event.failed for event in of(ChildEnded, events)] == [False]
    third.cancel()


async def test_a_child_that_can_cancel_lives_on_after_a_timeout(
    make_pool: Pool, events: list[Event], until: Until, later: Later
) -> None:
    """It is asked to, answers, and does the next task."""
    limits = {"task_timeout_seconds": 100, "kill_grace_s": 20.0}
    pool = await make_pool([sys.executable, "-c", CANCELS], executor=limits)
    slow = asyncio.create_task(run(pool, task("slow")))
    await until(lambda: pool.statistics().running == 1)
    later.let_pass(110, pool)
    assert error_of(await slow).kind == "timeout"
    assert (await run(pool, task("quick"))).stdout == "quick"
    assert len(of(ChildStarted, events)) == 1
    assert pool.statistics().running == 0


async def test_a_cancel_that_was_answered_is_not_held_against_the_child_later(
    make_pool: Pool, events: list[Event], until: Until, later: Later
) -> None:
    """However long ago it was when the next task runs out of time."""
    limits = {"task_timeout_seconds": 100, "kill_grace_s": 20.0}
    pool = await make_pool([sys.executable, "-c", CANCELS], executor=limits)
    for _ in range(2):
        slow = asyncio.create_task(run(pool, task("slow")))
        await until(lambda: pool.statistics().running == 1)
        later.let_pass(110, pool)
        assert error_of(await slow).kind == "timeout"
        assert (await run(pool, task("quick"))).stdout == "quick"
        later.let_pass(60, pool)
    assert len(of(ChildStarted, events)) == 1


async def test_silence_ends_a_child_long_before_its_tasks_time_out(make_worker: Pool) -> None:
    """Only while it has work; the reason names the seconds."""
    pool = await make_worker("silent", idle_output_timeout_s=0.1)
    outcomes = await run_all(pool, "a", "b")
    assert [error_of(outcome).kind for outcome in outcomes] == ["timeout"] * 2
    assert error_of(outcomes[0]).exception == "child 0 wrote nothing for 0.1 s"


async def test_a_child_that_had_nothing_to_say_is_not_silent(
    make_pool: Pool, events: list[Event], later: Later
) -> None:
    """The wait for output begins with its work, however long it was idle before."""
    pool = await make_pool(["cat"], protocol="lines", idle_output_timeout_s=50)
    for _ in range(2):
        assert (await run(pool, task())).stdout == "x\n"
        later.let_pass(60, pool)
    assert len(of(ChildStarted, events)) == 1


async def test_progress_is_not_silence(make_worker: Pool, until: Until, later: Later) -> None:
    """Who says that it works on gets all the time a task has."""
    limits = {"task_timeout_seconds": 100}
    pool = await make_worker("only_progress", 0.01, idle_output_timeout_s=50, executor=limits)
    outcome = asyncio.create_task(run(pool, task()))
    await until(lambda: pool.statistics().running == 1)
    (child,) = pool.children
    for _ in range(3):
        later.let_pass(40, pool)
        now = later.monotonic()
        await until(lambda now=now: child.heard_at >= now or outcome.done())
    assert error_of(await outcome).exception == "Timeout after 100s"


async def test_a_child_that_never_reads_holds_up_nobody_else(make_worker: Pool) -> None:
    """What it is sent waits in memory until its time is over."""
    pool = await make_worker("never_reads", executor={"task_timeout_seconds": 0.3})
    outcomes = await run_all(pool, *["x" * 1_000_000] * 4)
    assert {error_of(outcome).kind for outcome in outcomes} == {"timeout"}


async def test_a_flood_on_stderr_neither_blocks_nor_fills_the_log(make_worker: Pool, events: list[Event]) -> None:
    """A few lines of each piece are shown, the others counted."""
    pool = await make_worker("flood_stderr", 4)
    (result,) = await run_all(pool, "x")
    assert result.stdout == "x"
    logged = of(ChildLogged, events)
    assert max(len(event.lines) for event in logged) <= 20
    assert max(len(line) for event in logged for line in event.lines) <= 1001


async def test_the_whole_group_goes_with_a_child(
    make_worker: Pool, is_alive: Callable[[int], bool], until: Until
) -> None:
    """A process it left behind, which holds its pipes, is killed with it."""
    pool = await make_worker("forks_grandchild")
    (result,) = await run_all(pool, "x")
    grandchild = int(result.stdout)
    assert is_alive(grandchild)
    await pool.close()
    await until(lambda: not is_alive(grandchild))


async def test_a_child_that_ends_by_itself_while_idle_is_replaced(
    make_pool: Pool, events: list[Event], until: Until
) -> None:
    """With exit code 0 and its work done, it is not to blame."""
    pool = await make_pool(["sh", "-c", "read line; echo $line"], protocol="lines")
    for lives in (1, 2, 3):
        assert (await run(pool, task())).stdout == "x\n"
        await until(lambda lives=lives: len(of(ChildEnded, events)) == lives)
    assert {event.failed for event in of(ChildEnded, events)} == {False}


async def test_a_program_that_was_installed_anew_elsewhere_is_found(
    make_pool: Pool, events: list[Event], until: Until, tmp_path: Path
) -> None:
    """By an upgrade, say: where it was before is forgotten."""
    for directory in ("old", "new"):
        (tmp_path / directory).mkdir()
    old, new = tmp_path / "old" / "a-cat", tmp_path / "new" / "a-cat"
    old.symlink_to("/bin/cat")
    env = {"PATH": f"{old.parent}:{new.parent}"}
    pool = await make_pool(["a-cat"], {"env": env}, protocol="lines", breaker_cooldown_s=0.01)
    old.rename(new)
    psutil.Process(pool.children[0].pid).kill()
    await until(lambda: len(of(ChildStarted, events)) == 2)
    assert (await run(pool, task())).stdout == "x\n"
