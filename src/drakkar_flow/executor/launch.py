"""Launch of a task on the thread of a slot: from the task to its result."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.executor.base import TaskOutcome, section_of
from drakkar_flow.executor.child import Command, LaunchError, ProgramEnd, ProgramRun, RunLimits
from drakkar_flow.executor.environment import base_environment, find_program, forget_programs
from drakkar_flow.executor.host_limits import programs_soft_limit
from drakkar_flow.executor.launch_gate import NotStarted
from drakkar_flow.executor.rlimits import SHELL, SHELL_ARGS, SHELL_FAILED, check_executable, confined, limit_met
from drakkar_flow.executor.spawn import Environment, Spawner
from drakkar_flow.kernel.shortage import shortage_of
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["Launcher"]

_BY_ARGUMENTS = (errno.E2BIG, errno.ENAMETOOLONG)
"""Errors of a start that the task's arguments cause, not the program."""
_NO_PROGRAM = "no program to run: set {}.binary_path in the configuration, binary_path on the task, or its executor"


class Launcher:
    """Starts programs by the configuration, with the environment of `parent` at creation and `mark`."""

    def __init__(self, config: ProgramConfig, parent: Mapping[str, str], mark: Mapping[str, str] | None = None) -> None:
        self._binary_path = config.binary_path
        self._env = Environment(base_environment(config, parent, mark))
        self._cwd = config.cwd
        self._confines = config.limits
        self._ok_exit_codes = config.success_codes
        self._spawner = Spawner(config.cwd)
        self._limits = RunLimits(
            config.task_timeout_seconds, config.kill_grace_s, config.max_stdout_bytes, config.max_stderr_bytes
        )
        self._soft_files = programs_soft_limit()
        self._dev_null = _open_dev_null()

    def child(self) -> ProgramRun:
        """Create a child that can be run, and killed, once."""
        return ProgramRun(self._limits)

    def run(
        self, task: ExecutorTask, child: ProgramRun, on_started: Callable[[], None] | None = None
    ) -> TaskOutcome | NotStarted:
        """Run `task` to its end, or return the reason why its program can't be started now without the task's fault.

        Never raises: other errors are results of kind launch_failure or internal. `on_started` is called when the
        program runs.
        """
        began_at = time.monotonic()
        try:
            command = self._command(task)
            ending = child.run(command, self._spawner, self._dev_null, on_started)
            if ending.exit_code in SHELL_FAILED and command.path == SHELL:
                self._check(command)
        except LaunchError as exc:
            return self._not_started(task, exc, time.monotonic() - began_at)
        except Exception as exc:
            return self.failed(task, "internal", repr(exc))
        outcome = self._outcome(task, ending)
        return self._signed(outcome) if isinstance(outcome, ExecutorError) else outcome

    def is_configured(self, task: ExecutorTask) -> bool:
        """True if the configuration alone selects the program of `task`."""
        name = task.binary_path or self._binary_path
        return name == self._binary_path and not ("PATH" in task.env and "/" not in (name or ""))

    def failed(self, task: ExecutorTask, kind: ErrorKind, reason: str, took_s: float = 0.0) -> ExecutorError:
        """Return the result of a task whose program did not run."""
        return self._signed(ExecutorError(task=task, kind=kind, exception=reason, duration_seconds=took_s))

    def _signed(self, error: ExecutorError) -> ExecutorError:
        error.executor = "oneshot"
        error.command = self._command_line(error.task)
        return error

    def _check(self, command: Command) -> None:
        """Raise LaunchError if the shell that sets the limits could not execute the program."""
        path = command.args[SHELL_ARGS - 1]
        try:
            check_executable(path, self._cwd)
        except OSError as exc:
            raise LaunchError(f"can't start {path!r}: {exc}") from exc

    def _not_started(self, task: ExecutorTask, error: LaunchError, took_s: float) -> TaskOutcome | NotStarted:
        reason, cause = str(error), error.__cause__
        if isinstance(cause, FileNotFoundError):
            forget_programs()
        if isinstance(cause, OSError):
            if lacks := shortage_of(cause):
                return NotStarted(reason, "host", lacks)
            no_directory = self._cwd is not None and not os.path.isdir(self._cwd)  # noqa: PTH112
            if no_directory or (cause.errno not in _BY_ARGUMENTS and self.is_configured(task)):
                return NotStarted(reason, "program")
            if cause.errno == errno.ETXTBSY:
                return NotStarted(reason, "busy")
        return self.failed(task, "launch_failure", reason, took_s)

    def close(self) -> None:
        """Close the descriptors, after all programs have ended."""
        os.close(self._dev_null)

    def _command_line(self, task: ExecutorTask) -> list[str]:
        """Return the command of a failed task, without the shell for its limits; the name alone if it was not found."""
        name = task.binary_path or self._binary_path
        if not name:
            return []
        with suppress(OSError, ValueError, TypeError):
            name = find_program(name, self._env.over(task.env).variables.get("PATH"))
        return [name, *task.args]

    def _command(self, task: ExecutorTask) -> Command:
        name = task.binary_path or self._binary_path
        if not name:
            raise LaunchError(_NO_PROGRAM.format(section_of(task)))
        try:
            env = self._env.over(task.env)
            stdin = task.stdin.encode() if isinstance(task.stdin, str) else task.stdin
            path = find_program(name, env.variables.get("PATH"))
            return Command(*confined(path, task.args, self._confines, self._cwd, self._soft_files), env, stdin)
        except (OSError, ValueError, TypeError) as exc:
            raise LaunchError(f"can't start {name!r}: {exc}") from exc

    def _outcome(self, task: ExecutorTask, ending: ProgramEnd) -> TaskOutcome:
        (stdout, raw_stdout), (stderr, raw_stderr) = ending.stdout.decoded(), ending.stderr.decoded()
        code, took_s = ending.exit_code, time.monotonic() - ending.started_at
        if code in (task.ok_exit_codes or self._ok_exit_codes) and not ending.timed_out:
            return ExecutorResult(
                task=task,
                exit_code=code,
                stdout=stdout,
                stderr=stderr,
                duration_seconds=took_s,
                pid=ending.pid,
                spawn_seconds=ending.spawn_s,
                stdout_truncated=ending.stdout.truncated,
                stderr_truncated=ending.stderr.truncated,
                raw_stdout=raw_stdout,
                raw_stderr=raw_stderr,
            )
        error = ExecutorError(
            task=task,
            kind="signal" if code < 0 else "nonzero_exit",
            exit_code=code,
            signal=-code if code < 0 else None,
            exception=limit_met(self._confines, code, stderr, section_of(task)),
            stdout=stdout,
            stderr=stderr,
            pid=ending.pid,
            duration_seconds=took_s,
            stdout_truncated=ending.stdout.truncated,
            stderr_truncated=ending.stderr.truncated,
            raw_stdout=raw_stdout,
            raw_stderr=raw_stderr,
        )
        return self._timed_out(error) if ending.timed_out else error

    def _timed_out(self, error: ExecutorError) -> ExecutorError:
        error.kind = "timeout"
        error.exit_code = None
        error.stderr = error.stderr or "task timed out"
        error.exception = f"Timeout after {self._limits.timeout_s:g}s"
        return error


def _open_dev_null() -> int:
    """Open /dev/null above the three standard descriptors, because a daemon may have closed some."""
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        continue  # kept open: a pipe must not take its place
    return descriptor
