"""Making failures from exceptions."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable

from drakkar_flow.model.outcome import Failure, FailureKind, Hold

__all__ = ["describe", "failure_of", "is_cancelled"]

_STACK_LIMIT = 8192


def failure_of(kind: FailureKind, stage: str, error: BaseException, holds: Iterable[Hold]) -> Failure:
    """Describe an exception as a value that keeps the credit of the records it concerns."""
    stack = "".join(traceback.format_exception(error))[-_STACK_LIMIT:]
    return Failure(
        kind=kind,
        stage=stage,
        error=describe(error),
        holds=tuple(holds),
        exception_class=f"{type(error).__module__}.{type(error).__qualname__}",
        stacktrace=stack,
    )


def describe(error: BaseException) -> str:
    """An exception's text, or its name where it has none; where the text says little by itself, both.

    >>> describe(ValueError("no date")), describe(TimeoutError()), describe(KeyError("date")), describe(SystemExit(2))
    ('no date', 'TimeoutError', "KeyError: 'date'", 'SystemExit: 2')
    """
    name, text = type(error).__name__, str(error)
    return f"{name}: {text}" if text and isinstance(error, KeyError | SystemExit) else text or name


def is_cancelled() -> bool:
    """Whether the task that runs is being cancelled: then what a hook raises is not the hook's."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
