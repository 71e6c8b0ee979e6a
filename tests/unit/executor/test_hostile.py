"""Programs that behave badly: memory stays bounded, nothing hangs, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from drakkar_flow.executor import child
from drakkar_flow.executor.base import run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Sh = Callable[..., ExecutorTask]
Until = Callable[..., Awaitable[None]]
Alive = Callable[[int], bool]

MB = 1_000_000


async def test_endless_output_is_cut_and_the_program_killed_in_time(make_executor: Make, sh: Sh) -> None:
    """A program that writes for ever is read, dropped beyond the cap, and killed at its deadline."""
    executor = await make_executor(task_timeout_seconds=1, max_stdout_bytes=1000)
    before = psutil.Process().memory_info().rss
    began = time.monotonic()
    error = await run(executor, sh("yes"))
    assert time.monotonic() - began < 10
    assert isinstance(error, ExecutorError)
    assert (error.kind, error.stdout, error.stdout_truncated) == ("timeout", "y\n" * 500, True)
    assert psutil.Process().memory_info().rss - before < 50 * MB


async def test_two_gigabytes_of_output_do_not_fill_the_memory(make_executor: Make, sh: Sh) -> None:
    """The cap bounds what is held while the program is read to its end."""
    executor = await make_executor(task_timeout_seconds=100, max_stdout_bytes=MB)
    before = peak = psutil.Process().memory_info().rss
    call = asyncio.create_task(run(executor, sh("exec head -c 2000000000 /dev/zero")))
    while not call.done():
        peak = max(peak, psutil.Process().memory_info().rss)
        await asyncio.sleep(0.05)
    result = await call
    assert isinstance(result, ExecutorResult)
    assert (len(result.stdout), result.stdout_truncated) == (MB, True)
    assert peak - before < 50 * MB


async def test_huge_stderr_does_not_block_the_program(make_executor: Make, sh: Sh) -> None:
    """stderr is drained beside stdout and has its own cap."""
    executor = await make_executor()
    result = await run(executor, sh("head -c 30000000 /dev/zero | tr '\\0' e >&2; echo done"))
    assert isinstance(result, ExecutorResult)
    assert (result.stdout, len(result.stderr), result.stderr_truncated) == ("done\n", 1024 * 1024, True)


async def test_a_program_that_never_reads_its_stdin_is_not_waited_for(make_executor: Make, sh: Sh) -> None:
    """5 MB of stdin that nobody reads: a program that ends is a success, one that does not times out."""
    executor = await make_executor(task_timeout_seconds=1)
    stdin = b"x" * 5 * MB
    result = await run(executor, sh("sleep 0.1; echo done", stdin=stdin))
    assert isinstance(result, ExecutorResult), result
    assert result.stdout == "done\n"
    error = await run(executor, sh("sleep 60", stdin=stdin))
    assert isinstance(error, ExecutorError)
    assert error.kind == "timeout"


@pytest.mark.parametrize("size", [10, 5 * MB])
async def test_a_program_that_exits_before_reading_its_stdin_succeeds(make_executor: Make, sh: Sh, size: int) -> None:
    """A broken pipe on stdin is the program's choice, not a failure."""
    executor = await make_executor()
    for script in ("exit 0", "exec 0<&-; sleep 0.05", "head -c 1 >/dev/null"):
        assert isinstance(await run(executor, sh(script, stdin=b"x" * size)), ExecutorResult)


async def test_ignoring_sigterm_does_not_help(make_executor: Make, sh: Sh) -> None:
    """The deadline kills for good."""
    executor = await make_executor(task_timeout_seconds=0.5)
    error = await run(executor, sh("trap '' TERM INT HUP; while :; do sleep 1; done"))
    assert isinstance(error, ExecutorError)
    assert error.kind == "timeout"


async def test_a_program_that_stops_its_own_group_is_killed(make_executor: Make, sh: Sh) -> None:
    """A stopped group does not keep its own deadline: the slot does."""
    executor = await make_executor(task_timeout_seconds=0.5)
    error = await run(executor, sh("kill -STOP 0; sleep 60"))
    assert isinstance(error, ExecutorError)
    assert error.kind == "timeout"


@pytest.mark.parametrize(("ending", "kind", "timeout_s"), [("exit 0", "done", 60), ("sleep 60", "timeout", 3)])
async def test_a_daemon_that_holds_the_pipes_is_abandoned(
    make_executor: Make, sh: Sh, is_alive: Alive, tmp_path: Path, ending: str, kind: str, timeout_s: int
) -> None:
    """A double fork into another session can't be found: its pipes are closed and the output is flagged."""
    executor = await make_executor(task_timeout_seconds=timeout_s, kill_grace_s=0.3)
    pid_file = tmp_path / "pid"
    script = f"echo before; setsid sh -c 'echo $$ > {pid_file}; exec sleep 60' & while ! [ -s {pid_file} ]; do :; done;"
    began = time.monotonic()
    outcome = await run(executor, sh(f"{script} {ending}"))
    assert time.monotonic() - began < 10
    daemon = int(pid_file.read_text())
    try:
        assert is_alive(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)
    assert (outcome.kind if isinstance(outcome, ExecutorError) else "done") == kind
    assert (outcome.stdout, outcome.stdout_truncated, outcome.stderr_truncated) == ("before\n", True, True)


async def test_children_left_in_the_background_are_killed(
    make_executor: Make, sh: Sh, until: Until, is_alive: Alive
) -> None:
    """What a program leaves in its group dies with it, whether it holds the pipes or not."""
    executor = await make_executor()
    began = time.monotonic()
    holding = await run(executor, sh("sleep 60 & echo $!"))
    silent = await run(executor, sh("sleep 60 >/dev/null 2>&1 & echo $!"))
    assert time.monotonic() - began < 10
    for result in (holding, silent):
        assert isinstance(result, ExecutorResult)
        assert not result.stdout_truncated
        pid = int(result.stdout)
        await until(lambda pid=pid: not is_alive(pid))


async def test_a_background_child_may_still_write_for_a_moment(make_executor: Make, sh: Sh) -> None:
    """Output that comes shortly after the program's own end is kept."""
    executor = await make_executor()
    result = await run(executor, sh("(sleep 0.05; echo late) & echo early"))
    assert isinstance(result, ExecutorResult)
    assert result.stdout == "early\nlate\n"


async def test_closing_stdout_early_does_not_end_the_task(make_executor: Make, sh: Sh) -> None:
    """A program is over when it exits, not when its pipes close."""
    executor = await make_executor()
    error = await run(executor, sh("exec >&- 2>&-; sleep 0.2; exit 5"))
    assert isinstance(error, ExecutorError)
    assert error.exit_code == 5
    assert error.duration_seconds >= 0.2


async def test_closing_the_pipes_does_not_escape_the_deadline(make_executor: Make, sh: Sh) -> None:
    """A program with closed pipes is killed in time too."""
    executor = await make_executor(task_timeout_seconds=0.5)
    error = await run(executor, sh("exec >&- 2>&- <&-; sleep 60"))
    assert isinstance(error, ExecutorError)
    assert error.kind == "timeout"


async def test_half_a_line_is_output_like_any_other(make_executor: Make, sh: Sh) -> None:
    """The last line may be unfinished, even in the middle of a character."""
    executor = await make_executor()
    result = await run(executor, sh(r"printf 'whole\nhalf\303'"))
    assert isinstance(result, ExecutorResult)
    assert result.stdout == "whole\nhalf\ufffd"


async def test_leaving_the_group_does_not_escape_the_deadline(make_executor: Make, sh: Sh) -> None:
    """A program that moves itself to another process group is killed by its own number."""
    executor = await make_executor(task_timeout_seconds=2)
    script = "import os, time; os.setpgid(0, os.getpgid(os.getppid())); time.sleep(60)"
    error = await run(executor, sh("", binary_path="python3", args=["-c", script]))
    assert isinstance(error, ExecutorError)
    assert (error.kind, error.signal) == ("timeout", 9)


async def test_no_grace_still_reads_what_was_written(make_executor: Make, sh: Sh) -> None:
    """With kill_grace_s 0 the pipes are abandoned at once, but not before what lies in them is read."""
    executor = await make_executor(task_timeout_seconds=2, kill_grace_s=0)
    error = await run(executor, sh("echo written; exec sleep 60"))
    assert isinstance(error, ExecutorError)
    assert (error.kind, error.stdout) == ("timeout", "written\n")


async def test_output_is_read_even_when_the_slot_got_its_turn_too_late(
    make_executor: Make, sh: Sh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine every deadline may have passed when a slot looks: what lies in the pipes still counts."""
    monkeypatch.setattr(child, "QUIET_S", 10)
    monkeypatch.setattr(child, "LINGER_S", -1)
    executor = await make_executor(kill_grace_s=0)
    result = await run(executor, sh("echo written"))
    assert isinstance(result, ExecutorResult)
    assert (result.stdout, result.stdout_truncated) == ("written\n", False)
