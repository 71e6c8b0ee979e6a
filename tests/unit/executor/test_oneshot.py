"""Running tasks: their input, output, outcomes, order and events."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.errors import StartupError
from drakkar_flow.executor.base import Executor, ExecutorStatistics, TaskOutcome, run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.executor.reaper_client import MARK
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.tasks import TaskFinished, TasksStarted
from support.processes import programs, slots

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Sh = Callable[..., ExecutorTask]
Until = Callable[..., Awaitable[None]]
Alive = Callable[[int], bool]


def ok(outcome: TaskOutcome) -> ExecutorResult:
    """The outcome, which has to be a result."""
    assert isinstance(outcome, ExecutorResult), outcome
    return outcome


def bad(outcome: TaskOutcome) -> ExecutorError:
    """The outcome, which has to be an error."""
    assert isinstance(outcome, ExecutorError), outcome
    return outcome


async def test_d23_a_task_out_of_time_is_killed_with_all_it_started(
    make_executor: Make, sh: Sh, until: Until, is_alive: Alive
) -> None:
    """Timeout 1 s: the error says so within a second or two, and a grandchild is dead too."""
    executor: Executor = await make_executor(task_timeout_seconds=1)
    began = time.monotonic()
    error = bad(await run(executor, sh("sleep 60 & echo $!; sleep 60")))
    assert time.monotonic() - began < 10
    assert (error.kind, error.exit_code, error.signal) == ("timeout", None, 9)
    assert (error.stderr, error.exception) == ("task timed out", "Timeout after 1s")
    assert error.duration_seconds >= 1
    await until(lambda: not is_alive(int(error.stdout)))


async def test_d23_what_was_written_before_the_timeout_is_kept(make_executor: Make, sh: Sh) -> None:
    """Output up to the kill is there; a program's own stderr is not replaced."""
    executor = await make_executor(task_timeout_seconds=0.5)
    error = bad(await run(executor, sh("echo out; echo err >&2; sleep 60")))
    assert (error.kind, error.stdout, error.stderr) == ("timeout", "out\n", "err\n")


@pytest.mark.parametrize("path", ["/nope", "nope-nowhere", "/etc/passwd", "/"])
async def test_d24_a_program_that_cannot_be_started_is_a_launch_failure(make_executor: Make, sh: Sh, path: str) -> None:
    """Missing or not executable: an error value that names the program, and the next task runs."""
    executor = await make_executor(max_executors=1)
    error = bad(await run(executor, sh("", binary_path=path)))
    assert (error.kind, error.exit_code, error.pid) == ("launch_failure", None, None)
    assert path in (error.exception or "")
    assert ok(await run(executor, sh("echo on"))).stdout == "on\n"


async def test_d24_no_program_configured_anywhere_says_what_to_set(make_executor: Make, sh: Sh) -> None:
    """The text names the configuration key and the task's field."""
    executor = await make_executor()
    error = bad(await run(executor, sh("", binary_path=None)))
    assert error.kind == "launch_failure"
    assert "executor.binary_path" in str(error.exception)
    assert "binary_path on the task" in str(error.exception)


async def test_d24_the_task_overrides_the_configured_program(make_executor: Make, sh: Sh) -> None:
    """`task.binary_path` wins over the configuration; without it the configured one runs."""
    executor = await make_executor(binary_path="/bin/echo")
    assert ok(await run(executor, sh("echo shell"))).stdout == "shell\n"
    assert ok(await run(executor, sh("", binary_path=None, args=["configured"]))).stdout == "configured\n"


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [("abc", "abc"), ("ä€", "ä€"), (b"\xff\x00a", "\ufffd\x00a"), ("", ""), (None, ""), ("x" * 5000, "x" * 5000)],
)
async def test_d25_a_program_reads_exactly_what_the_task_says(
    make_executor: Make, sh: Sh, stdin: str | bytes | None, expected: str
) -> None:
    """Text goes as UTF-8, bytes as they are, and without stdin there is an end of file at once."""
    executor = await make_executor()
    assert ok(await run(executor, sh("cat", stdin=stdin))).stdout == expected


async def test_d25_much_input_and_output_do_not_deadlock(make_executor: Make, sh: Sh) -> None:
    """A few megabytes go through a program that echoes them, with as much on stderr."""
    executor = await make_executor(max_stderr_bytes=0)
    data = "0123456789abcde\n" * 200_000
    result = ok(await run(executor, sh("tee /dev/stderr", stdin=data)))
    assert (result.stdout, result.stderr) == (data, data)
    assert not result.stdout_truncated


async def test_d25_a_line_of_ten_megabytes_comes_whole(make_executor: Make, sh: Sh) -> None:
    """Below the cap nothing is cut, however long a line is."""
    executor = await make_executor()
    result = ok(await run(executor, sh("head -c 10000000 /dev/zero | tr '\\0' x")))
    assert result.stdout == "x" * 10_000_000


async def test_d25_invalid_text_is_replaced(make_executor: Make, sh: Sh) -> None:
    """Bytes that are no UTF-8 become replacement characters."""
    executor = await make_executor()
    result = ok(await run(executor, sh(r"printf 'a\377b'; printf '\300' >&2")))
    assert (result.stdout, result.stderr) == ("a\ufffdb", "\ufffd")


async def test_d26_variables_are_laid_over_each_other(
    make_executor: Make, sh: Sh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task's variables win over the configured ones, and secrets of this process are not visible."""
    for name in ("DK_X", "DB_PASSWORD", "API_TOKEN", "PLAIN"):
        monkeypatch.setenv(name, "parent")
    executor = await make_executor(env={"FOO": "1", "BAR": "1"})
    result = ok(await run(executor, sh("echo $FOO $BAR $PLAIN; env", env={"FOO": "2"})))
    assert result.stdout.startswith("2 1 parent\n")
    assert not any(name in result.stdout for name in ("DK_X", "DB_PASSWORD", "API_TOKEN"))


async def test_d26_nothing_is_inherited_when_told_so(make_executor: Make, sh: Sh) -> None:
    """With env_inherit_parent off a program sees the given variables only, and the mark of its executor."""
    executor = await make_executor(env_inherit_parent=False, env={"FOO": "1"})
    task = sh("", binary_path="/usr/bin/env", args=[], env={"BAR": "2"})
    mark, *given = sorted(ok(await run(executor, task)).stdout.split(), key=lambda line: not line.startswith(MARK))
    assert mark.removeprefix(f"{MARK}=")
    assert sorted(given) == ["BAR=2", "FOO=1"]


async def test_d28_a_cancelled_waiter_leaves_the_queue(make_executor: Make, sh: Sh, until: Until) -> None:
    """Its place is free at once, it never runs, and the slot serves the next one."""
    executor = await make_executor(max_executors=1)
    blocker = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics()[:3] == (1, 0, 1))
    waiter = asyncio.create_task(run(executor, sh("echo never")))
    await until(lambda: executor.statistics().waiting == 1)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert executor.statistics()[:3] == (1, 0, 1)
    blocker.cancel()
    await asyncio.wait([blocker])
    assert executor.statistics().running == 0
    assert ok(await run(executor, sh("echo next"))).stdout == "next\n"


async def test_an_exit_code_other_than_zero_is_a_failure(make_executor: Make, sh: Sh) -> None:
    """The code and both outputs are told."""
    executor = await make_executor()
    error = bad(await run(executor, sh("echo out; echo err >&2; exit 3")))
    assert (error.kind, error.exit_code, error.signal) == ("nonzero_exit", 3, None)
    assert (error.stdout, error.stderr, error.exception) == ("out\n", "err\n", None)


async def test_death_by_a_signal_is_told_apart(make_executor: Make, sh: Sh) -> None:
    """The signal's number is told, and negated as the exit code."""
    executor = await make_executor()
    error = bad(await run(executor, sh("kill -SEGV $$")))
    assert (error.kind, error.exit_code, error.signal) == ("signal", -11, 11)


async def test_too_long_a_command_line_is_a_launch_failure(make_executor: Make, sh: Sh) -> None:
    """What the kernel refuses is a value too."""
    executor = await make_executor()
    error = bad(await run(executor, sh("", args=["x" * 4_000_000])))
    assert error.kind == "launch_failure"
    assert "rgument list too long" in str(error.exception)


@pytest.mark.parametrize("fields", [{"args": ["a\0b"]}, {"env": {"A": "\0"}}, {"args": [7]}, {"stdin": "\ud800"}])
async def test_a_task_that_makes_no_sense_is_a_launch_failure(
    make_executor: Make, sh: Sh, fields: dict[str, Any]
) -> None:
    """NUL characters and values of the wrong type are refused as values, never cut or raised."""
    executor = await make_executor()
    task = sh("true")
    for name, value in fields.items():  # in the making they would be refused
        setattr(task, name, value)
    assert bad(await run(executor, task)).kind == "launch_failure"


async def test_bare_names_are_looked_up_on_the_childs_path(make_executor: Make, sh: Sh, tmp_path: Path) -> None:
    """The PATH that the task gives decides which program runs."""
    tool = tmp_path / "greet"
    tool.write_text("#!/bin/sh\necho hello\n")
    tool.chmod(0o755)
    executor = await make_executor()
    task = sh("", binary_path="greet", args=[], env={"PATH": f"{tmp_path}:/bin:/usr/bin"})
    assert ok(await run(executor, task)).stdout == "hello\n"
    tool.unlink()
    assert bad(await run(executor, task)).kind == "launch_failure"
    assert "no program 'greet'" in str(bad(await run(executor, task)).exception)


async def test_programs_start_in_the_configured_directory(make_executor: Make, sh: Sh, tmp_path: Path) -> None:
    """`cwd` is where programs run."""
    executor = await make_executor(cwd=str(tmp_path))
    assert ok(await run(executor, sh("pwd"))).stdout.strip() == str(tmp_path)


async def test_a_missing_directory_is_found_at_the_start(make_executor: Make, tmp_path: Path) -> None:
    """A `cwd` that is no directory stops the start and says which key to mend."""
    with pytest.raises(StartupError, match=r"executor\.cwd"):
        await make_executor(cwd=str(tmp_path / "nope"))


async def test_output_beyond_the_cap_is_dropped_and_flagged(make_executor: Make, sh: Sh) -> None:
    """Each stream has its own cap, cut between characters; the program runs to its end."""
    executor = await make_executor(max_stdout_bytes=5, max_stderr_bytes=3)
    result = ok(await run(executor, sh("printf ääää; printf abcdef >&2; head -c 300000 /dev/zero")))
    assert (result.stdout, result.stderr) == ("ää", "abc")
    assert (result.stdout_truncated, result.stderr_truncated) == (True, True)
    exact = ok(await run(executor, sh("printf abcde")))
    assert (exact.stdout, exact.stdout_truncated) == ("abcde", False)


async def test_waiting_tasks_start_by_priority_then_in_order(
    make_executor: Make, sh: Sh, until: Until, tmp_path: Path
) -> None:
    """With one slot, those that wait start by ascending priority, equals as they came."""
    executor = await make_executor(max_executors=1)
    log = tmp_path / "log"
    blocker = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics().running == 1)
    waiters = []
    for name, priority in (("c", 2), ("a", 1), ("d", 2), ("b", 1), ("first", 0)):
        waiters.append(asyncio.create_task(run(executor, sh(f"echo {name} >> {log}"), priority)))
        await asyncio.sleep(0)
    blocker.cancel()
    for outcome in await asyncio.gather(*waiters):
        ok(outcome)
    assert log.read_text().split() == ["first", "a", "b", "c", "d"]


async def test_a_priority_of_another_kind_is_an_error_value(make_executor: Make, sh: Sh, until: Until) -> None:
    """Priorities that can't be compared fail that task only."""
    executor = await make_executor(max_executors=1)
    blocker = asyncio.create_task(run(executor, sh("sleep 60")))
    await until(lambda: executor.statistics().running == 1)
    waiter = asyncio.create_task(run(executor, sh("echo ran"), 1))
    await asyncio.sleep(0)
    assert bad(await run(executor, sh("true"), "high")).kind == "internal"
    blocker.cancel()
    assert ok(await waiter).stdout == "ran\n"


async def test_events_tell_when_tasks_start_and_how_they_end(make_executor: Make, sh: Sh, events: list[Event]) -> None:
    """Each task is announced once and ended once, with its durations and flags."""
    executor = await make_executor(max_stdout_bytes=1)
    result = ok(await run(executor, sh("echo long")))
    await run(executor, sh("exit 1"))
    started, done, _, failed = events
    assert started == TasksStarted(count=1)
    assert isinstance(done, TaskFinished)
    assert (done.status, done.kind, done.stdout_truncated, done.stderr_truncated) == ("completed", "", True, False)
    assert done.duration_s == result.duration_seconds > done.spawn_s == result.spawn_seconds
    assert done.spawn_s > 0
    assert done.queue_wait_s >= 0
    assert isinstance(failed, TaskFinished)
    assert (failed.status, failed.kind) == ("failed", "nonzero_exit")


async def test_a_failure_of_the_library_itself_is_an_internal_error(
    make_executor: Make, sh: Sh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the machinery break, the task fails as a value, its program is killed and the slot goes on."""
    executor = await make_executor(max_executors=1)
    with monkeypatch.context() as patch:
        patch.setattr("drakkar_flow.executor.child.ProgramRun._watch", lambda self, deadline: 1 / 0)
        error = bad(await run(executor, sh("sleep 60")))
    assert error.kind == "internal"
    assert "ZeroDivisionError" in str(error.exception)
    assert programs() == []
    assert ok(await run(executor, sh("echo on"))).stdout == "on\n"


async def test_a_program_that_cannot_be_watched_at_once_is_watched_a_moment_later(
    make_executor: Make, sh: Sh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs already when the descriptor that tells its end is missing: it is not killed, and not started again."""
    executor = await make_executor(max_executors=1)
    ok(await run(executor, sh("true")))  # the reaper has its own descriptor by now
    real, calls = os.pidfd_open, iter([OSError(24, "Too many open files")])

    def refuse_once(pid: int, flags: int = 0) -> int:
        for refusal in calls:
            raise refusal
        return real(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", refuse_once)
    assert ok(await run(executor, sh("wc -c", stdin="x" * 10_000))).stdout.strip() == "10000"
    assert ok(await run(executor, sh("echo on"))).stdout == "on\n"


async def test_slots_are_never_exceeded_whatever_the_tasks_do(make_executor: Make, sh: Sh) -> None:
    """200 tasks that end in every possible way: at most four programs at once, each outcome as it should be."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    executor = await make_executor(max_executors=4, task_timeout_seconds=3, kill_grace_s=0.2)
    most, stop = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not stop.is_set():
            statistics = executor.statistics()
            assert statistics.running <= statistics.slots == 4
            most = max(most, len(programs()))
            await asyncio.sleep(0.002)

    async def one(kind: str) -> None:
        scripts = {"ok": "cat", "exit": "exit 7", "signal": "kill -9 $$", "timeout": "sleep 60", "cancel": "sleep 60"}
        path = "/nope" if kind == "launch" else "/bin/sh"
        task = sh(scripts.get(kind, ""), stdin="x", binary_path=path)
        if kind == "cancel":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run(executor, task, chance.randrange(3)), chance.random() / 10)
            return
        outcome = await run(executor, task, chance.randrange(3))
        expected = {"exit": "nonzero_exit", "launch": "launch_failure"}.get(kind, kind)
        assert (outcome.kind if isinstance(outcome, ExecutorError) else "ok") == expected

    watcher = asyncio.create_task(watch())
    kinds = chance.choices(["ok", "exit", "signal", "launch", "cancel", "timeout"], [60, 40, 40, 30, 25, 5], k=200)
    await asyncio.gather(*map(one, kinds))
    stop.set()
    await watcher
    assert 1 <= most <= 4
    assert executor.statistics() == ExecutorStatistics(running=0, waiting=0, slots=4, ended=200)


async def test_an_outcome_is_not_held_back_while_others_wait_for_long(
    make_executor: Make, sh: Sh, until: Until
) -> None:
    """Outcomes travel in batches, but one is told soon although the slot is busy and its queue is not empty."""
    executor = await make_executor(max_executors=1)
    for _ in range(2):
        calls = [asyncio.create_task(run(executor, sh(script))) for script in ("true", "sleep 60", "sleep 60")]
        ok(await asyncio.wait_for(calls[0], 10))
        for call in calls[1:]:
            call.cancel()
        await asyncio.wait(calls[1:])
        await until(lambda: not executor._timer_runs)


async def test_threads_come_as_they_are_needed(make_executor: Make, sh: Sh) -> None:
    """One task after the other needs one thread, whatever the bound is."""
    executor = await make_executor(max_executors=1000)
    for _ in range(5):
        ok(await run(executor, sh("true")))
    assert len(slots()) == 1
    await asyncio.gather(*(run(executor, sh("true")) for _ in range(10)))
    assert len(slots()) <= 10


def test_the_executor_works_on_another_loop_and_survives_its_end() -> None:
    """A loop that ends without close() does not hang the slots' threads, which are daemons."""

    async def use() -> OneshotExecutor:
        from drakkar_flow.config.sections.executor import ExecutorConfig

        executor = OneshotExecutor(ExecutorConfig(binary_path="/bin/true"), Bus())
        await executor.start()
        ok(await run(executor, ExecutorTask(task_id="t", source_offsets=[])))
        return executor

    executor = asyncio.run(use())
    assert all(thread.daemon for thread in slots())
    asyncio.run(executor.close())
    assert slots() == []
