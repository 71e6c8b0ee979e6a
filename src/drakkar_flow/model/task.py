"""What a handler asks an executor to do, and what comes back."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal

from drakkar_flow.model.base import Model

__all__ = [
    "ErrorAction",
    "ErrorKind",
    "ExecutorError",
    "ExecutorResult",
    "ExecutorTask",
    "PendingContext",
    "PrecomputedResult",
]

ErrorKind = Literal[
    "nonzero_exit", "signal", "timeout", "launch_failure", "internal", "protocol", "crash", "unavailable"
]
"""Why a task failed: it exited non-zero, was killed, ran out of time, could not be started, or the
library itself failed. With long-lived children also: the child broke the protocol or can't be told
the task, the child ended while it had the task, or no child could be started for too long."""

_STDIN = {str, bytes, type(None)}


class PrecomputedResult(Model):
    """The outcome of a task that needs no process: it skips the executor's slots."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0
    duration_seconds: float = 0.0


_PRECOMPUTED = {PrecomputedResult, type(None)}


class ExecutorTask(Model, kw_only=True):
    """One run of an external program, attributed to the source offsets it works for.

    `source_offsets` are offsets of the window `arrange` was given; one that is not in the window
    is ignored, and a task left without any counts for every record of the window.
    `binary_path` overrides `executor.binary_path`; `env` is laid over `executor.env`;
    `precomputed` makes the task complete without a process.

    >>> ExecutorTask(task_id="t-1", source_offsets=[7], args="-c")
    Traceback (most recent call last):
    ...
    TypeError: task t-1: args must be a list, not str: '-c'

    Raises:
        TypeError: `task_id`, `source_offsets`, `args` or `stdin` is missing or of a wrong type.
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

    def __post_init__(self) -> None:
        if (
            type(self.args) is not list
            or type(self.source_offsets) is not list
            or type(self.task_id) is not str
            or type(self.stdin) not in _STDIN
            or type(self.precomputed) not in _PRECOMPUTED
        ):
            self._settle()

    def _settle(self) -> None:
        """Take other collections as lists; say what is wrong with anything else."""
        if not isinstance(self.task_id, str):
            raise TypeError(f"task_id must be text, not {type(self.task_id).__name__}: {self.task_id!r}")
        self.args = self._as_list("args", self.args)
        self.source_offsets = self._as_list("source_offsets", self.source_offsets)
        if not isinstance(self.stdin, str | bytes | None):
            raise TypeError(f"task {self.task_id}: stdin must be text or bytes, not {type(self.stdin).__name__}")
        if not isinstance(self.precomputed, PrecomputedResult | None):
            raise TypeError(
                f"task {self.task_id}: precomputed must be a PrecomputedResult, not {type(self.precomputed).__name__}"
            )

    def _as_list(self, name: str, value: Any) -> list[Any]:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TypeError(f"task {self.task_id}: {name} must be a list, not {type(value).__name__}: {value!r}")
        return list(value)


class ExecutorResult(Model, kw_only=True):
    """What a program left behind: it exited with 0, or, in `on_window_complete` alone, it failed.

    `exit_code` is -1 when a failed program never came to its own end (timeout, launch failure).
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


class ExecutorError(Model, kw_only=True):
    """Why a task failed: a value, not an exception.

    `exit_code` is None when the program never came to its own end (timeout, launch failure), and
    -N when signal N ended it; `signal` is the number of the signal that ended it, if one did.
    `attempt` counts the runs of the task, this one included.

    `executor` is what ran it (`oneshot`, `persistent`, `precomputed`) and `command` the command line that was run or
    could not be: the program found, then its arguments. A long-lived child's is its own, the task's `args` are in
    the request. Both are empty where the task never reached an executor.
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
    executor: str = ""
    command: list[str] = []

    @property
    def reason(self) -> str:
        """Why it failed, in words."""
        if self.exception:
            return self.exception
        return f"signal {self.signal}" if self.signal is not None else f"exit code {self.exit_code}"


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

    def __init__(
        self, pending_tasks: list[ExecutorTask] | None = None, pending_task_ids: set[str] | None = None
    ) -> None:
        self.pending_tasks: list[ExecutorTask] = pending_tasks or []
        self._ids = pending_task_ids

    @property
    def pending_task_ids(self) -> set[str]:
        """The ids of `pending_tasks`, unless others were given."""
        if self._ids is None:
            self._ids = {task.task_id for task in self.pending_tasks}
        return self._ids
