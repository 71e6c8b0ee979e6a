"""Long-lived children meet the limits of programs."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from drakkar_flow.executor.base import TaskOutcome, run
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from support.session import SRC

pytestmark = pytest.mark.anyio

MakePool = Callable[..., Awaitable[Any]]

WORK = {
    "burn": "sum(iter(int, 1))",
    "write": "import signal as s; s.signal(s.SIGXFSZ, s.SIG_DFL); open(task.args[0], 'wb').write(bytes(2 << 20))",
    "swallow": "bytes(300 << 20)",
    "open": "import os; kept = [os.dup(2) for _ in range(40)]",
    "tell": "return open('/proc/self/limits').read()",
}


def worker(work: str) -> list[str]:
    """A child that does it for each task."""
    code = f"import sys; sys.path.insert(0, {str(SRC)!r})\nfrom drakkar_flow.worker import serve\n"
    return [sys.executable, "-c", f"{code}def work(task): {WORK[work]}\nserve(work)"]


def task(*args: str) -> ExecutorTask:
    """A task with nothing but arguments."""
    return ExecutorTask(task_id="t", source_offsets=[1], args=list(args))


@pytest.mark.parametrize(
    ("work", "limits", "kind", "reason"),
    [
        ("burn", {"cpu_s": 1}, "crash", "killed by SIGXCPU, for it reached executor.limits.cpu_s (1),"),
        ("write", {"file_size_mib": 1}, "crash", "SIGXFSZ, for it reached executor.limits.file_size_mib (1),"),
        ("swallow", {"memory_mib": 200}, "nonzero_exit", "reached executor.limits.memory_mib (200)"),
        ("open", {"open_files": 30}, "nonzero_exit", "reached executor.limits.open_files (30)"),
    ],
)
async def test_a_child_that_meets_a_limit_fails_its_task_with_the_name(
    work: str, limits: dict[str, int], kind: str, reason: str, make_pool: MakePool, tmp_path: Any
) -> None:
    """Where the kernel ends the child, the child is gone; where it only refuses something, the task alone fails."""
    pool = await make_pool(worker(work), executor={"limits": limits})
    error: TaskOutcome = await run(pool, task(str(tmp_path / "big")))
    assert isinstance(error, ExecutorError)
    assert (error.kind, reason in str(error.exception)) == (kind, True), error


async def test_the_limits_reach_a_long_lived_child(make_pool: MakePool) -> None:
    """The same way as a program that runs once."""
    pool = await make_pool(worker("tell"), executor={"limits": {"open_files": 77, "cpu_s": 9}})
    result = await run(pool, task())
    assert isinstance(result, ExecutorResult), result
    seen = {line[:26].strip(): line[26:].split()[:2] for line in result.stdout.splitlines()}
    assert (seen["Max open files"], seen["Max cpu time"]) == (["77", "77"], ["9", "10"])
