"""What a handler asks an executor to do, and what comes back."""

from __future__ import annotations

import hashlib
import os
import time
from enum import StrEnum
from typing import Any, Literal

import msgspec

__all__ = [
    "ErrorAction",
    "ErrorKind",
    "ExecutorError",
    "ExecutorResult",
    "ExecutorTask",
    "PendingContext",
    "PrecomputedResult",
    "make_stable_task_id",
    "make_task_id",
]

ErrorKind = Literal["nonzero_exit", "signal", "timeout", "launch_failure", "internal"]
"""Why a task failed: it exited non-zero, was killed, ran out of time, could not be started, or
the library itself failed."""


class PrecomputedResult(msgspec.Struct):
    """The outcome of a task that needs no process: it skips the executor's slots."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0
    duration_seconds: float = 0.0


class ExecutorTask(msgspec.Struct, kw_only=True):
    """One run of an external program, attributed to the source offsets it works for.

    `source_offsets` are offsets of the window `arrange` was given; one that is not in the window
    is ignored, and a task left without any counts for every record of the window.
    `binary_path` overrides `executor.binary_path`; `env` is laid over `executor.env`;
    `precomputed` makes the task complete without a process.
    """

    task_id: str
    source_offsets: list[int]
    args: list[str] = []
    metadata: dict[str, Any] = {}
    labels: dict[str, str] = {}
    binary_path: str | None = None
    stdin: str | bytes | None = None
    env: dict[str, str] = {}
    precomputed: PrecomputedResult | None = None
    parent_task_id: str | None = None


class ExecutorResult(msgspec.Struct, kw_only=True):
    """What a program that exited with 0 left behind.

    `stdout` and `stderr` are text (UTF-8, invalid bytes replaced), cut at the executor's caps,
    which the `_truncated` flags tell. `pid` is None for a precomputed result.
    """

    task: ExecutorTask
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    duration_seconds: float = 0.0
    pid: int | None = None
    spawn_seconds: float | None = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False


class ExecutorError(msgspec.Struct, kw_only=True):
    """Why a task failed: a value, not an exception.

    `exit_code` is None when the program never came to its own end (timeout, launch failure), and
    -N when signal N ended it; `signal` is the number of the signal that ended it, if one did.
    `attempt` counts the runs of the task, this one included.
    """

    task: ExecutorTask
    kind: ErrorKind = "nonzero_exit"
    exit_code: int | None = None
    signal: int | None = None
    stdout: str = ""
    stderr: str = ""
    exception: str | None = None
    pid: int | None = None
    duration_seconds: float = 0.0
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    attempt: int = 1


class ErrorAction(StrEnum):
    """What `on_error` decides for a failed task; it may return a list of replacement tasks instead."""

    RETRY = "retry"
    SKIP = "skip"
    DLQ = "dlq"


class PendingContext:
    """The tasks of one partition that are not finished yet, as they stood when `arrange` was called.

    >>> task = ExecutorTask(task_id="t-1", source_offsets=[1])
    >>> PendingContext([task]).pending_task_ids
    {'t-1'}
    """

    __slots__ = ("_ids", "pending_tasks")

    def __init__(self, pending_tasks: list[ExecutorTask] | None = None) -> None:
        self.pending_tasks: list[ExecutorTask] = pending_tasks or []
        self._ids: set[str] | None = None

    @property
    def pending_task_ids(self) -> set[str]:
        """The ids of `pending_tasks`."""
        if self._ids is None:
            self._ids = {task.task_id for task in self.pending_tasks}
        return self._ids


def make_task_id(prefix: str = "t") -> str:
    """Make a task id whose lexicographic order is its creation order.

    >>> make_task_id() < make_task_id()
    True
    """
    return f"{prefix}-{time.time_ns():016x}-{os.urandom(4).hex()}"


def make_stable_task_id(prefix: str, *parts: str | int) -> str:
    """Make the same id for the same parts every time, so that pending tasks can be recognised.

    Each part enters the SHA-256 with its length (8 bytes, big endian) before it, so that
    `("ab", "c")` and `("a", "bc")` differ. The rule is py-drakkar's, ids stay comparable.

    >>> make_stable_task_id("t", "alpha", "beta")
    't-5d11bfa62398519b'

    Raises:
        ValueError: when no parts are given.
    """
    if not parts:
        raise ValueError("make_stable_task_id needs at least one part besides the prefix")
    digest = hashlib.sha256()
    for part in parts:
        raw = str(part).encode()
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return f"{prefix}-{digest.hexdigest()[:16]}"
