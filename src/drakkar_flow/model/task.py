"""Tasks for an executor, and their results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from drakkar_flow.model.base import Model
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.task_checks import TaskChecks

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from drakkar_flow.model.task_fields import TaskFields, TaskSource

__all__ = [
    "ErrorAction",
    "ErrorKind",
    "ExecutorError",
    "ExecutorResult",
    "ExecutorTask",
    "PendingContext",
    "ProgramOutput",
    "decode_output",
]

ErrorKind = Literal[
    "nonzero_exit", "signal", "timeout", "launch_failure", "internal", "protocol", "crash", "unavailable"
]
"""Kind of a task's failure: non-zero exit, signal, timeout, failed start, or an error of the library
itself. With long-lived children also: a protocol violation or a task that can't be encoded, a crash
of the child during the task, or no child that could be started for too long."""


_STDIN = {str, bytes}
_all_text = frozenset({str}).issuperset
_all_numbers = frozenset({int}).issuperset


class ExecutorTask(Model, kw_only=True):
    """One run of an external program, for the records at `source_offsets`.

    `source_offsets` are offsets of `arrange`'s window. Offsets outside the window are ignored; a task
    without any offset of the window works for every record of it.
    `executor` names one of the configuration's `executors`; empty takes the default one.
    `binary_path` overrides the executor's; `env` is laid over the executor's.
    `ok_exit_codes` are the exit codes that count as success, in place of the executor's.
    `precomputed` makes the task complete without a process.

    `args`, `binary_path` and the values of `env` take text, bytes and paths, and hold them as text: bytes that are
    not UTF-8 are held as Python holds such file names (`os.fsdecode`) and reach the program unchanged. A field that is
    changed later is checked again when a hook returns the task.

    >>> ExecutorTask(task_id="t-1", source_offsets=[7], args=["-c", 3])
    Traceback (most recent call last):
    ...
    TypeError: task t-1: args[1] is int 3: write str(3)

    Raises:
        TypeError: a field is missing or of a wrong type; the text names the task, the field and the value.
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
    executor: str = ""
    ok_exit_codes: list[int] | None = None

    if TYPE_CHECKING:

        def __init__(self, *, task_id: str, source_offsets: Collection[int], **fields: Unpack[TaskFields]) -> None: ...

    def __post_init__(self) -> None:
        """Check every field; text, bytes and paths become text, other collections become lists.

        Raises:
            TypeError: a field is of a wrong type.
        """
        args: Any = self.args
        offsets: Any = self.source_offsets
        metadata, labels = self.metadata, self.labels
        stdin, given, path = self.stdin, self.precomputed, self.binary_path
        try:
            if (
                type(args) is type(offsets) is list  # iterators, which can be read only once, are left to _settle
                and type(self.task_id) is type(self.executor) is str
                and type(self.env) is type(labels) is type(metadata) is dict
                and self.parent_task_id is None
                and self.ok_exit_codes is None
                and (given is None or type(given) is PrecomputedResult)
                and (stdin is None or type(stdin) in _STDIN)
                and (path is None or (type(path) is str and "\0" not in path))
                and ((len(offsets) == 1 and type(offsets[0]) is int) or _all_numbers(map(type, offsets)))
                and (not args or (_all_text(map(type, args)) and "\0" not in "".join(args)))
                and (not metadata or _all_text(map(type, metadata)))
                and (not labels or _all_text(map(type, (*labels, *labels.values()))))
                and not self.env
            ):
                return
        except TypeError:
            pass
        self._settle()

    check = __post_init__
    """Check every field again: hooks may have changed it."""

    def _settle(self) -> None:
        """Convert values that are equivalent to the declared type; raise for others."""
        fields = TaskChecks(self.task_id)
        self.args = fields.arguments(self.args)
        self.source_offsets = fields.numbers("source_offsets", self.source_offsets)
        if self.binary_path is not None:
            self.binary_path = fields.argument("binary_path", self.binary_path) or None
        self.stdin = fields.stdin(self.stdin)
        self.env = fields.environment(self.env)
        self.labels = fields.texts("labels", self.labels)
        self.metadata = fields.keyed("metadata", self.metadata)
        self.executor = fields.word("executor", self.executor, "write the name of an executor")
        if self.parent_task_id is not None:
            self.parent_task_id = fields.word("parent_task_id", self.parent_task_id, "write the id of a task")
        if self.ok_exit_codes is not None:
            self.ok_exit_codes = fields.exit_codes(self.ok_exit_codes)
        given: object = self.precomputed
        if not isinstance(given, PrecomputedResult | None):
            raise TypeError(f"task {self.task_id}: precomputed must be a PrecomputedResult, not {type(given).__name__}")

    @classmethod
    def for_records(cls, records: Sequence[TaskSource], **fields: Unpack[TaskFields]) -> ExecutorTask:
        """Make a task for several records of a window; its id is derived from the first one's.

        `Record.task` does the same for a single record and has an example.

        Raises:
            ValueError: there are no records.
        """
        if not records:
            raise ValueError("for_records needs at least one record")
        return cls(task_id=records[0].next_task_id(), source_offsets=[record.offset for record in records], **fields)


class ProgramOutput(Model, kw_only=True):
    """Output of a program.

    * `stdout` and `stderr` are text: UTF-8, with U+FFFD for invalid bytes; then `stdout_replaced` or
      `stderr_replaced` is set.
    * `stdout_bytes` and `stderr_bytes` are the original bytes.
    * All of them are cut at the executor's limits; then `stdout_truncated` or `stderr_truncated` is set.
    * `raw_stdout` and `raw_stderr` are held only if the bytes are not UTF-8; read `stdout_bytes` instead.
    """

    if TYPE_CHECKING:  # their order differs between the classes
        stdout: str
        stderr: str
        stdout_truncated: bool
        stderr_truncated: bool
        raw_stdout: bytes | None
        raw_stderr: bytes | None

    _internal: ClassVar[frozenset[str]] = frozenset({"raw_stdout", "raw_stderr"})

    @property
    def stdout_bytes(self) -> bytes:
        """Standard output, byte for byte.

        >>> text, raw = decode_output(b"\\x1f\\x8b")
        >>> result = ExecutorResult(
        ...     task=ExecutorTask(task_id="t", source_offsets=[]), stdout=text, raw_stdout=raw
        ... )
        >>> result.stdout_bytes, result.stdout_replaced
        (b'\\x1f\\x8b', True)
        """
        return self.stdout.encode(errors="surrogatepass") if self.raw_stdout is None else self.raw_stdout

    @property
    def stderr_bytes(self) -> bytes:
        """Standard error, byte for byte."""
        return self.stderr.encode(errors="surrogatepass") if self.raw_stderr is None else self.raw_stderr

    @property
    def stdout_replaced(self) -> bool:
        """True if `stdout` lost bytes that are not UTF-8."""
        return self.raw_stdout is not None

    @property
    def stderr_replaced(self) -> bool:
        """True if `stderr` lost bytes that are not UTF-8."""
        return self.raw_stderr is not None


class ExecutorResult(ProgramOutput, kw_only=True):
    """Result of a program that exited with one of its `ok_exit_codes`, or, in `on_window_complete`, failed.

    `exit_code` is -1 if a failed program did not exit itself (timeout, launch failure).
    `pid` is None for a precomputed result.
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
    raw_stdout: bytes | None = None
    raw_stderr: bytes | None = None


class ExecutorError(ProgramOutput, kw_only=True):
    """Failure of a task: a value, not an exception.

    `exit_code` is None if the program did not exit itself (timeout, launch failure), and
    -N if signal N ended it; `signal` is the number of that signal, if any.
    `attempt` counts the runs of the task, this one included.

    `executor` is the kind of executor (`oneshot`, `persistent`, `precomputed`), `command` the command line of the run
    or attempt: the program, then its arguments. For a long-lived child it is the child's; the task's `args` are in
    the request. Both are empty if the task never reached an executor.
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
    raw_stdout: bytes | None = None
    raw_stderr: bytes | None = None

    @property
    def reason(self) -> str:
        """The reason in words."""
        if self.exception:
            return self.exception
        return f"signal {self.signal}" if self.signal is not None else f"exit code {self.exit_code}"


def decode_output(data: bytes) -> tuple[str, bytes | None]:
    """Return a program's output as text, and `data` itself if the text lost bytes.

    >>> decode_output(b"\\xc3\\xa4"), decode_output(b"\\xc3")
    (('ä', None), ('\ufffd', b'\\xc3'))
    """
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return data.decode(errors="replace"), data


class ErrorAction(StrEnum):
    """Decision of `on_error` about a failed task; it may return a list of replacement tasks instead."""

    RETRY = "retry"
    SKIP = "skip"
    DLQ = "dlq"


class PendingContext:
    """The unfinished tasks of one partition at the call of `arrange`.

    >>> task = ExecutorTask(task_id="t-1", source_offsets=[1])
    >>> PendingContext([task]).pending_task_ids
    {'t-1'}
    """

    __slots__ = ("_ids", "_started", "_tasks")

    def __init__(
        self, pending_tasks: list[ExecutorTask] | None = None, pending_task_ids: set[str] | None = None
    ) -> None:
        self._tasks = pending_tasks or []
        self._started: Collection[tuple[ExecutorTask, str]] = ()
        self._ids = pending_task_ids

    @classmethod
    def of_started(cls, started: Collection[tuple[ExecutorTask, str]]) -> PendingContext:
        """Make the context of started tasks, each with its id; the list is made on first access."""
        context = cls()
        context._started = started
        return context

    @property
    def pending_tasks(self) -> list[ExecutorTask]:
        """The tasks, oldest first."""
        if self._started:
            self._tasks = [task for task, _ in self._started]
            self._started = ()
        return self._tasks

    @property
    def pending_task_ids(self) -> set[str]:
        """The ids of `pending_tasks`, unless given."""
        if self._ids is None:
            self._ids = {task.task_id for task in self.pending_tasks}
        return self._ids
