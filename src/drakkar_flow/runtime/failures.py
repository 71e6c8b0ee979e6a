"""Making failures from exceptions."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Iterable

from drakkar_flow.errors import BatchFailed, DecodeError, RoutingError, SinkMisconfigured, SinkRejected
from drakkar_flow.kernel.brake import Cause, normalised
from drakkar_flow.model.outcome import Blame, Delivery, Failure, FailureKind, Hold
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.about import About

__all__ = ["about", "by_lane", "cause_of", "describe", "failure_of", "is_cancelled"]

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
        detail=getattr(error, "detail", ""),
        exception_class=f"{type(error).__module__}.{type(error).__qualname__}",
        stacktrace=stack,
        task_id=task_id,
        blame=_blame(kind, error),
        cause=_cause(error),
    )


def cause_of(failure: Failure) -> Cause:
    """What a failure has in common with all others that one mistake makes."""
    step = failure.stage if failure.proof == "" else failure.proof
    return Cause(step, failure.kind, failure.cause or normalised(failure.error), failure.blame is Blame.FLOW)


def _blame(kind: FailureKind, error: BaseException) -> Blame:
    if isinstance(error, BatchFailed) and error.failures:  # of a batch that failed for the same reason
        error = next(iter(error.failures.values()))
    if isinstance(error, SinkMisconfigured | RoutingError):
        return Blame.FLOW
    return Blame.OUTAGE if kind is FailureKind.SINK and not isinstance(error, SinkRejected) else Blame.RECORD


def _cause(error: BaseException) -> str:
    inner = error.__cause__ if isinstance(error, DecodeError) else None  # its text names the record
    error = inner or error
    return f"{type(error).__qualname__}: {normalised(describe(error))}"


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
    name = type(error).__name__
    try:
        text = str(error)
    except Exception as broken:  # an exception's own text may depend on a broken value
        text = f"{name}, whose text raises {type(broken).__name__}"
    return f"{name}: {text}" if text and isinstance(error, KeyError | SystemExit) else text or name


def is_cancelled() -> bool:
    """Whether the task that runs is being cancelled: then what a hook raises is not the hook's."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
