"""Priority: the order in which waiting tasks get a slot."""

from __future__ import annotations

from collections.abc import Callable

from drakkar_flow.model.task import ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.steps.windows import TaskRun

__all__ = ["priority_of"]


def priority_of(run: TaskRun, ask: Callable[[ExecutorTask], object] | None, bus: Bus) -> object:
    """Return the priority of a task, such that any two can be compared; never raises.

    Without `ask`, and if it fails, it is the first of the task's source offsets.
    """
    task = run.task
    offsets = task.source_offsets
    first = offsets[0] if len(offsets) == 1 else min(offsets, default=0)
    if ask is None:
        return first
    try:
        return _comparable(ask(task))
    except BaseException as exc:  # a task without a priority still has to run
        bus.emit(HookRan("task_priority", None, describe(exc), exc, run.about))
        return _comparable(first)


def _comparable(answer: object) -> tuple[tuple[int, object], ...]:
    """Numbers sort before texts, so that the two kinds are never compared with each other."""
    components = answer if isinstance(answer, tuple) else (answer,)
    for part in components:
        if not isinstance(part, (int, float, str)) or part != part:
            raise TypeError(f"task_priority must return a number, a text or a tuple of these, not {answer!r}")
    return tuple((int(isinstance(part, str)), part) for part in components)
