"""Making failures from exceptions."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Iterable

from drakkar_flow.model.outcome import Delivery, Failure, FailureKind, Hold
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.about import About

__all__ = ["about", "by_lane", "describe", "failure_of", "is_cancelled", "root_cause"]

_STACK_LIMIT = 8192


def failure_of(
    kind: FailureKind, stage: str, error: BaseException, holds: Iterable[Hold], task_id: str = ""
) -> Failure:
    """Describe an exception as a value that keeps the credit of the records it concerns."""
    stack = "".join(traceback.format_exception(error))[-_STACK_LIMIT:]
    return Failure(
        kind=kind,
        stage=stage,
        error=describe(error),
        holds=tuple(holds),
        exception_class=f"{type(error).__module__}.{type(error).__qualname__}",
        stacktrace=stack,
        task_id=task_id,
    )


def about(items: Iterable[Delivery | Failure]) -> About:
    """The records and tasks of deliveries or failures, for what is told of them."""
    items = list(items)
    return About.of((record for item in items for record, _ in item.holds), (item.task_id for item in items))


def by_lane(items: Iterable[Delivery | Failure]) -> tuple[tuple[Lane, int], ...]:
    """How many of deliveries or failures are of which partition: that of the first record of each."""
    return tuple(Counter(item.holds[0][0].lane for item in items).items())


def describe(error: BaseException) -> str:
    """An exception's text, or its name where it has none; where the text says little by itself, both.

    >>> describe(ValueError("no date")), describe(TimeoutError()), describe(KeyError("date")), describe(SystemExit(2))
    ('no date', 'TimeoutError', "KeyError: 'date'", 'SystemExit: 2')
    """
    name, text = type(error).__name__, str(error)
    return f"{name}: {text}" if text and isinstance(error, KeyError | SystemExit) else text or name


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain of errors.

    >>> try:
    ...     raise RuntimeError("error closing the sink") from OSError("no space left")
    ... except RuntimeError as error:
    ...     root_cause(error)
    OSError('no space left')
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_cancelled() -> bool:
    """Whether the task that runs is being cancelled: then what a hook raises is not the hook's."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
