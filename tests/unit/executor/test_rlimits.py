"""Limits of programs, met by real children."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.errors import StartupError
from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.executor.rlimits import confined, limit_met
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Sh = Callable[..., ExecutorTask]


@pytest.fixture
def run_within(make_executor: Make, sh: Sh, tmp_path: Path) -> Callable[..., Awaitable[TaskOutcome]]:
    """Run a script within limits, in a directory of its own."""

    async def within(script: str, limits: dict[str, Any], **fields: Any) -> TaskOutcome:
        executor = await make_executor(limits=limits, cwd=str(tmp_path))
        return await run(executor, sh(script, **fields))

    return within


def python(code: str) -> dict[str, Any]:
    """The fields of a task that runs Python."""
    return {"binary_path": sys.executable, "args": ["-S", "-c", code]}


MET = {
    "cpu_s": ({"cpu_s": 1}, "while :; do :; done", {}, signal.SIGXCPU, "reached executor.limits.cpu_s (1)"),
    "cpu_s of a grandchild": (
        {"cpu_s": 1}, "sh -c 'while :; do :; done'; exit $?", {}, None, "reached executor.limits.cpu_s (1)",
    ),
    "file_size_mib": (
        {"file_size_mib": 1}, "exec head -c 2000000 /dev/zero > big", {}, signal.SIGXFSZ,
        "reached executor.limits.file_size_mib (1)",
    ),
    "file_size_mib in python": (
        {"file_size_mib": 1}, "", python("open('big', 'wb').write(bytes(2000000))"), None,
        "reached executor.limits.file_size_mib (1), as its stderr says",
    ),
    "memory_mib": (
        {"memory_mib": 64}, "", python("bytes(200 << 20)"), None,
        "reached executor.limits.memory_mib (64), as its stderr says",
    ),
    "open_files": (
        {"open_files": 10}, "", python("import os; [os.dup(0) for _ in range(20)]"), None,
        "reached executor.limits.open_files (10), as its stderr says",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MET)
async def test_a_program_that_meets_a_limit_fails_with_its_name(
    name: str, run_within: Callable[..., Awaitable[TaskOutcome]]
) -> None:
    """The reason names the key and its value; where the kernel sent a signal, the error has it."""
    limits, script, fields, number, reason = MET[name]
    error = await run_within(script, limits, **fields)
    assert isinstance(error, ExecutorError)
    assert (error.signal, error.exception) == (number, reason)


async def test_every_limit_reaches_the_program(run_within: Callable[..., Awaitable[TaskOutcome]]) -> None:
    """As the kernel shows it, with its arguments and environment as they were; a core dump is off."""
    limits = {
        "cpu_s": 7,
        "memory_mib": 100,
        "open_files": 33,
        "processes": 4000,
        "file_size_mib": 5,
        "nice": 3,
        "umask": "027",
    }
    script = 'cat /proc/self/limits; umask; nice; printf "<%s>" "$@"; echo "$WHY"'
    result = await run_within(script, limits, args=["-c", script, "sh", "a b", "", "$c"], env={"WHY": "because"})
    assert isinstance(result, ExecutorResult), result
    seen = {line[:26].strip(): line[26:].split()[:2] for line in result.stdout.splitlines()}
    assert seen["Max cpu time"] == ["7", "8"]
    assert seen["Max data size"] == [str(100 << 20)] * 2
    assert seen["Max open files"] == ["33", "33"]
    assert seen["Max processes"] == ["4000", "4000"]
    assert seen["Max file size"] == [str(5 << 20)] * 2
    assert seen["Max core file size"] == ["0", "0"]
    assert result.stdout.endswith(f"0027\n{os.nice(0) + 3}\n<a b><><$c>because\n")


async def test_without_limits_no_shell_stands_between() -> None:
    """The cost is paid by those who set one."""
    assert confined("/bin/cat", ["x"], LimitsConfig(core_mib=5)) == ("/bin/cat", ["x"])


@pytest.mark.parametrize(("path", "why"), [("/nope", "No such file"), ("/etc/passwd", "executed"), ("/", "directory")])
async def test_a_program_that_cannot_be_started_is_a_launch_failure_within_limits_too(
    path: str, why: str, run_within: Callable[..., Awaitable[TaskOutcome]]
) -> None:
    """Not an exit code of the shell."""
    error = await run_within("", {"cpu_s": 1}, binary_path=path)
    assert isinstance(error, ExecutorError)
    assert error.kind == "launch_failure"
    assert why in str(error.exception)


async def test_a_relative_program_is_looked_for_in_the_programs_directory(
    make_executor: Make, sh: Sh, tmp_path: Path
) -> None:
    """As without limits."""
    (tmp_path / "hello").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "hello").chmod(0o755)
    executor = await make_executor(limits={"open_files": 20}, cwd=str(tmp_path))
    result = await run(executor, sh("", binary_path="./hello", args=[]))
    assert isinstance(result, ExecutorResult), result
    assert result.stdout == "hello\n"


async def test_the_end_by_timeout_is_told_as_a_timeout(make_executor: Make, sh: Sh) -> None:
    """A limit that was set and not met is not named."""
    executor = await make_executor(limits={"cpu_s": 100}, task_timeout_seconds=0.2)
    error = await run(executor, sh("sleep 60"))
    assert isinstance(error, ExecutorError)
    assert (error.kind, error.exception) == ("timeout", "Timeout after 0.2s")


def test_a_limit_that_is_not_set_is_not_blamed() -> None:
    """Neither for a signal nor for words."""
    assert limit_met(LimitsConfig(open_files=5), -signal.SIGXCPU, "MemoryError") is None
    assert limit_met(LimitsConfig(), 1, "Too many open files") is None
    assert limit_met(LimitsConfig(cpu_s=5), 300, "") is None


async def test_a_limit_above_our_own_is_refused_at_startup(
    make_executor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is possible here; root may raise limits."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10, 10))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StartupError, match=r"executor.limits.open_files: 20 is more than this process may give \(10\)"):
        await make_executor(limits={"open_files": 20})
