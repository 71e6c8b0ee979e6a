"""From a task to its outcome, on the thread of a slot."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from drakkar_flow.config.executor import ProgramConfig
from drakkar_flow.executor.base import Outcome, section_of
from drakkar_flow.executor.child import Child, Command, Ending, LaunchError, Limits
from drakkar_flow.executor.confine import confined, limit_met
from drakkar_flow.executor.environment import base_environment, find_program, forget_programs
from drakkar_flow.executor.spawn import Environment, Spawner
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["Launcher"]

_NO_PROGRAM = "no program to run: set {}.binary_path in the configuration, or binary_path on the task"


class Launcher:
    """Knows how programs are started here: the configuration, and the environment as `parent` is now with `mark`."""

    def __init__(self, config: ProgramConfig, parent: Mapping[str, str], mark: Mapping[str, str] | None = None) -> None:
        self._binary_path = config.binary_path
        self._env = Environment(base_environment(config, parent, mark))
        self._cwd = config.cwd
        self._confines = config.limits
        self._ok_exit_codes = config.success_codes
        self._spawner = Spawner(config.cwd)
        self._limits = Limits(
            config.task_timeout_seconds, config.kill_grace_s, config.max_stdout_bytes, config.max_stderr_bytes
        )
        self._dev_null = _open_dev_null()

    def child(self) -> Child:
        """Make a child that can be run, and killed, once."""
        return Child(self._limits)

    def run(self, task: ExecutorTask, child: Child) -> tuple[Outcome, float]:
        """Run `task` to its end; the seconds that starting the program took stand beside the outcome.

        Never raises: what goes wrong here is an outcome of kind launch_failure or internal.
        """
        outcome, spawn_s = self._run(task, child)
        if isinstance(outcome, ExecutorError):
            outcome.executor = "oneshot"
            outcome.command = self._command_line(task)
        return outcome, spawn_s

    def _run(self, task: ExecutorTask, child: Child) -> tuple[Outcome, float]:
        began_at = time.monotonic()
        try:
            ending = child.run(self._command(task), self._spawner, self._dev_null)
        except LaunchError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                forget_programs()
            took_s = time.monotonic() - began_at
            error = ExecutorError(task=task, kind="launch_failure", exception=str(exc), duration_seconds=took_s)
            return error, took_s
        except Exception as exc:
            return ExecutorError(task=task, kind="internal", exception=repr(exc)), 0.0
        return self._outcome(task, ending), ending.spawn_s

    def close(self) -> None:
        """Give the descriptors back; nothing runs any more."""
        os.close(self._dev_null)

    def _command_line(self, task: ExecutorTask) -> list[str]:
        """What a failed task ran, without the shell that sets its limits; the name alone where it was not found."""
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
            return Command(*confined(path, task.args, self._confines, self._cwd), env, stdin)
        except (OSError, ValueError, TypeError) as exc:
            raise LaunchError(f"can't start {name!r}: {exc}") from exc

    def _outcome(self, task: ExecutorTask, ending: Ending) -> Outcome:
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
    """Open /dev/null above the three standard descriptors, of which a daemon may have closed some."""
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        continue  # kept open: a pipe must not take its place
    return descriptor
