"""Scripted executor: starts no process; a script defines the result of each task."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.errors import ExecutorClosed
from drakkar_flow.executor.base import Done, ExecutorStatistics, Running, TaskOutcome
from drakkar_flow.executor.task_events import task_finished
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorResult, ExecutorTask, decode_output
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.tasks import TasksStarted
from drakkar_flow.observe.named_bus import NamedBus
from drakkar_flow.testing.gate import Gate

__all__ = ["Answer", "EventEmitting", "Program", "ScriptedExecutor", "Unscripted", "failed", "succeeded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Behaviour of a program: it runs for `delay_s` seconds of the flow's clock, writes its output and exits.

    `stdout` and `stderr` are text, or bytes as a program would write them. `kind` is an abnormal end: `timeout`,
    `signal`, `launch_failure`, `internal`.
    """

    stdout: str | bytes = ""
    stderr: str | bytes = ""
    exit_code: int = 0
    delay_s: float = 0.0
    kind: ErrorKind | None = None

    def outcome(self, task: ExecutorTask, ok_exit_codes: Collection[int] = (0,)) -> TaskOutcome:
        """Return the result of a task; its own `ok_exit_codes` take precedence over the given ones."""
        output = {"duration_seconds": self.delay_s, **_output("stdout", self.stdout), **_output("stderr", self.stderr)}
        if self.kind is None and self.exit_code in (task.ok_exit_codes or ok_exit_codes):
            return ExecutorResult(task=task, exit_code=self.exit_code, **output)
        return ExecutorError(
            task=task,
            kind=self.kind or "nonzero_exit",
            exit_code=self.exit_code if self.kind in (None, "nonzero_exit") else None,
            **output,
        )


class Program(NamedTuple):
    """Program and limits of a task's executor, as far as the kit knows them."""

    binary: str = ""
    timeout_s: float | None = None
    ok_exit_codes: Collection[int] = (0,)

    @classmethod
    def of(cls, config: ProgramConfig) -> Program:
        """Return the program of a configuration."""
        return cls(config.binary_path or "", config.task_timeout_seconds, config.success_codes)


Ending = str | bytes | int | Answer
"""Text or bytes: success with that output. A number: the exit code."""
Script = Callable[[ExecutorTask], TaskOutcome | Ending] | Mapping[str, Ending | Sequence[Ending]]
"""Script: a function of the task; or by task id one ending, or one for each attempt (the last stays).

A function may raise ExecutorClosed for a task that is given up. Other exceptions are errors of kind `internal`.
"""


class Unscripted(AssertionError):
    """Raised by a strict executor for a task that its script does not know: the test fails with it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Endings of the tasks that match; see `ScriptedExecutor.on`."""

    task_id: str | None
    binary: str | None
    args: Sequence[str] | None
    stdin: str | None
    executor: str | None
    endings: list[Ending]

    def gives(self, *endings: Ending) -> None:
        """Set the endings of such a task: one for each of its attempts, the last stays."""
        self.endings[:] = endings

    def fits(self, task: ExecutorTask, binary: str) -> bool:
        """Return True if the task matches."""
        stdin = task.stdin.decode(errors="replace") if isinstance(task.stdin, bytes) else task.stdin or ""
        return (
            self.task_id in (None, task.task_id)
            and self.executor in (None, task.executor or "default")
            and self.binary in (None, task.binary_path or binary)
            and self.stdin in (None, stdin)
            and (self.args is None or _alike(self.args, task.args))
        )


def succeeded(task: ExecutorTask, stdout: str | bytes = "") -> ExecutorResult:
    """Return the result of a task whose program exited with 0."""
    return ExecutorResult(task=task, **_output("stdout", stdout))


def failed(task: ExecutorTask, exit_code: int = 1, stderr: str | bytes = "") -> ExecutorError:
    """Return the error of a task whose program exited with another code."""
    return ExecutorError(task=task, exit_code=exit_code, **_output("stderr", stderr))


def _output(name: str, output: str | bytes) -> dict[str, Any]:
    """Return the fields of a result for a program's output."""
    text, raw = decode_output(output) if isinstance(output, bytes) else (output, None)
    return {name: text, f"raw_{name}": raw}


class _Running:
    def __init__(self, run: asyncio.Task[TaskOutcome | None]) -> None:
        self._run = run

    def cancel(self) -> None:
        self._run.cancel()

    def state(self) -> str:
        return "has ended" if self._run.done() else "runs by a script"


class ScriptedExecutor:
    """Ends tasks as `script` or a rule (`on`) defines; all others succeed without output.

    With `strict` a task without a script or rule fails the test.

    - `calls`: the submitted tasks, each attempt once; `started`: their ids; `priorities`: the priority of each task.
    - `running`: the ids of the tasks that run now; `peak`: the most that ran at once.
    - `times`: the start times by the flow's clock.
    - `gate(task_id)`, `gate()`: while the gate of a task, or of all tasks, is shut, tasks run on.
    - `timeout_s`: the longest delay of an answer. The kit sets it, `binary` and `programs`, the executors by name, from
      the flow's configuration.

    >>> executor = ScriptedExecutor({"t-1": [1, 1, "third time lucky"]})
    >>> executor.on(binary="grep", args=["-c", "..."]).gives("12")
    >>> executor.on(args=["--slow"]).gives(Answer(stdout="at last", delay_s=30))
    """

    def __init__(self, script: Script | None = None, *, slots: int = 4, strict: bool = False) -> None:
        self.script: Script = script if script is not None else {}
        self.strict = strict
        self.binary = ""
        self.timeout_s: float | None = None
        self.programs: dict[str, Program] = {}
        self._slots = slots
        self._rules: list[Rule] = []
        self._attempts: Counter[str] = Counter()
        self.gates: dict[str, Gate] = {}
        self._runs: dict[asyncio.Task[TaskOutcome | None], str] = {}
        self.calls: list[ExecutorTask] = []
        self.times: list[float] = []
        self.priorities: dict[str, object] = {}
        self.peak = 0

    @property
    def started(self) -> list[str]:
        """Ids of the tasks in the order they started, each attempt once."""
        return [task.task_id for task in self.calls]

    @property
    def running(self) -> list[str]:
        """Ids of the tasks that run now, in the order they started."""
        return list(self._runs.values())

    def on(
        self,
        *,
        task_id: str | None = None,
        binary: str | None = None,
        args: Sequence[str] | None = None,
        stdin: str | None = None,
        executor: str | None = None,
    ) -> Rule:
        """Begin a rule for the tasks that match all arguments; earlier rules take precedence, the script before all.

        `executor` is the name in the task, `default` if it has none. In `args` `"*"` stands for any one argument,
        `"..."` at the end for any that follow.
        """
        rule = Rule(task_id, binary, args, stdin, executor, [])
        self._rules.append(rule)
        return rule

    def gate(self, task_id: str = "") -> Gate:
        """Return the gate at which a task waits before it ends; without an id the gate of all tasks."""
        return self.gates.setdefault(task_id, Gate())

    async def start(self) -> None:
        """Do nothing: there is nothing to start."""

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """End the task by the script, in a later turn of the loop."""
        self.calls.append(task)
        self.times.append(asyncio.get_running_loop().time())
        self.priorities[task.task_id] = priority
        run = asyncio.get_running_loop().create_task(self._run(task))
        self._runs[run] = task.task_id
        self.peak = max(self.peak, len(self._runs))

        def ended(run: asyncio.Task[TaskOutcome | None]) -> None:
            del self._runs[run]
            done(None if run.cancelled() else run.result())

        run.add_done_callback(ended)
        return _Running(run)

    async def _run(self, task: ExecutorTask) -> TaskOutcome | None:
        await self.gate(task.task_id).passage()
        await self.gate().passage()
        try:
            ending = self._ending(task)
        except ExecutorClosed:
            return None
        except Exception as exc:  # as an executor that fails by itself would report it
            if isinstance(exc, Unscripted):
                asyncio.get_running_loop().call_exception_handler({"message": str(exc), "exception": exc})
            return ExecutorError(task=task, kind="internal", exception=f"{type(exc).__name__}: {exc}")
        if isinstance(ending, ExecutorResult | ExecutorError):
            return ending
        if isinstance(ending, str | bytes | int):
            ending = Answer(exit_code=ending) if isinstance(ending, int) else Answer(stdout=ending)
        program = self._program_of(task)
        if program.timeout_s is not None and ending.delay_s > program.timeout_s:
            ending = Answer(kind="timeout", delay_s=program.timeout_s)
        await asyncio.sleep(ending.delay_s)
        return ending.outcome(task, program.ok_exit_codes)

    def _program_of(self, task: ExecutorTask) -> Program:
        name = "" if task.executor == "default" else task.executor
        program = self.programs.get(name, Program())
        return program if name else program._replace(binary=self.binary, timeout_s=self.timeout_s)

    async def close(self) -> None:
        """Give up the tasks that wait at a gate."""
        for run in self._runs:
            run.cancel()

    def statistics(self) -> ExecutorStatistics:
        """Return the number of running tasks; no task ever waits for a slot."""
        return ExecutorStatistics(len(self._runs), 0, self._slots)

    def _ending(self, task: ExecutorTask) -> TaskOutcome | Ending:
        if not isinstance(self.script, Mapping):
            return self.script(task)
        endings: Ending | Sequence[Ending] | None = self.script.get(task.task_id)
        binary = self._program_of(task).binary
        if endings is None:
            endings = next((rule.endings for rule in self._rules if rule.fits(task, binary)), None)
        if endings is None and self.strict:
            call = " ".join([task.binary_path or binary, *task.args])
            raise Unscripted(f"no script for task {task.task_id}: {call}")
        if isinstance(endings, str | bytes | int | Answer):
            return endings
        if not endings:
            return ""
        attempt = self._attempts[task.task_id]
        self._attempts[task.task_id] += 1
        return endings[min(attempt, len(endings) - 1)]


class EventEmitting:
    """Emits events for the tasks of a scripted executor, as an executor of programs does."""

    def __init__(self, executor: ScriptedExecutor, bus: Bus) -> None:
        self._executor = executor
        self._bus = bus
        self.start = executor.start
        self.close = executor.close
        self.statistics = executor.statistics

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Submit the task."""

        def ended(outcome: TaskOutcome | None) -> None:
            bus.emit(task_finished(outcome, waited_s=0.0))
            done(outcome)

        bus = NamedBus(self._bus, task.executor) if task.executor not in ("", "default") else self._bus
        bus.emit(TasksStarted(1))
        return self._executor.submit(task, priority, ended)


def _alike(pattern: Sequence[str], args: Sequence[str]) -> bool:
    if pattern and pattern[-1] == "...":
        pattern = pattern[:-1]
        args = args[: len(pattern)]
    return len(pattern) == len(args) and all(
        wanted in ("*", given) for wanted, given in zip(pattern, args, strict=True)
    )
