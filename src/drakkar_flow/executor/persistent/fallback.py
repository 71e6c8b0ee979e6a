"""Fall-back: runs tasks one-shot that no child can take."""

from __future__ import annotations

import msgspec

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.executor.base import Done, Executor, Running, TaskOutcome
from drakkar_flow.model.task import ExecutorTask

__all__ = ["run_oneshot"]


def run_oneshot(oneshot: Executor, config: ProgramConfig, task: ExecutorTask, priority: object, done: Done) -> Running:
    """Run `task` by the one-shot executor: the children's command line and the task's arguments after it.

    A task that names a program runs that program with the task's arguments alone.
    """
    if task.binary_path not in (None, config.binary_path):
        return oneshot.submit(task, priority, done)

    def ended(outcome: TaskOutcome | None) -> None:
        if outcome is not None:
            outcome.task = task
        done(outcome)

    whole = msgspec.structs.replace(task, args=[*config.persistent.args, *task.args])
    return oneshot.submit(whole, priority, ended)
