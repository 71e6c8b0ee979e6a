"""Failures made from exceptions."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pydantic

from drakkar_flow.errors import BatchFailed, DecodeError, RoutingError, SinkMisconfigured, SinkRejected
from drakkar_flow.kernel.brake import Cause
from drakkar_flow.kernel.causes import cause_key
from drakkar_flow.model.outcome import AckToken, Blame, Delivery, Failure, FailureKind
from drakkar_flow.model.payload import payloads_of
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.context import EventContext

__all__ = [
    "LIBRARY",
    "about",
    "brake_cause",
    "by_partition",
    "describe",
    "exception_cause",
    "failure_of",
    "is_cancelled",
    "located",
    "returned_error",
    "root_cause",
    "stack_of",
]

_STACK_LIMIT = 8192
_FIELDS = 5  # fields of a validation error that are named
LIBRARY: Final = str(Path(__file__).parents[1])
"""Directory of this package: frames below it are not the user's."""
_MISCALLS: Final = ("Missing required argument", "Unexpected keyword argument", "Extra positional arguments")
"""Error texts of a task or a payload about arguments that it does not have."""
_HINT: Final = ": write source_offsets=[record.offset], or make the task with record.task(args=[...])"


def failure_of(
    kind: FailureKind,
    stage: str,
    error: BaseException,
    tokens: Iterable[AckToken],
    task_id: str = "",
    stack: str | None = None,
) -> Failure:
    """Describe an exception as a value that keeps the credit of its records; `stack` is its `stack_of`, if known."""
    return Failure(
        kind=kind,
        stage=stage,
        error=describe(error),
        tokens=tuple(tokens),
        detail=getattr(error, "detail", ""),
        exception_class=f"{type(error).__module__}.{type(error).__qualname__}",
        stacktrace=stack_of(error) if stack is None else stack,
        task_id=task_id,
        blame=_blame(kind, error),
        cause=exception_cause(error),
    )


def stack_of(error: BaseException) -> str:
    """Return the end of an exception's stack trace as text. It takes 0.1 to 0.5 ms."""
    return "".join(traceback.format_exception(error))[-_STACK_LIMIT:]


def brake_cause(failure: Failure) -> Cause:
    """Return the key of a failure that all failures of one mistake share."""
    step = failure.stage if failure.proof == "" else failure.proof
    return Cause(step, failure.kind, failure.cause or cause_key(failure.error), failure.blame is Blame.FLOW)


def _blame(kind: FailureKind, error: BaseException) -> Blame:
    if isinstance(error, BatchFailed) and error.failures:  # of a batch that failed for the same reason
        error = next(iter(error.failures.values()))
    if isinstance(error, SinkMisconfigured | RoutingError):
        return Blame.FLOW
    return Blame.OUTAGE if kind is FailureKind.SINK and not isinstance(error, SinkRejected) else Blame.RECORD


def exception_cause(error: BaseException) -> str:
    """Return the class and the text of an exception without values that differ from record to record."""
    inner = error.__cause__ if isinstance(error, DecodeError) else None  # its text names the record
    error = inner or error
    return f"{type(error).__qualname__}: {cause_key(describe(error))}"


def about(items: Iterable[Delivery | Failure]) -> EventContext:
    """Return the event context of deliveries or failures: their records and tasks."""
    items = list(items)
    return EventContext.of((record for item in items for record, _ in item.tokens), (item.task_id for item in items))


def by_partition(items: Iterable[Delivery | Failure]) -> tuple[tuple[TopicPartition, int], ...]:
    """Count deliveries or failures by partition: that of the first record of each."""
    return tuple(Counter(item.tokens[0][0].topic_partition for item in items).items())


def describe(error: BaseException) -> str:
    """Return the text of an exception, with its class where the text is short, or its class where it has no text.

    The text of a pydantic validation error names its fields without their values, because it goes into log lines.

    >>> describe(ValueError("no date")), describe(TimeoutError()), describe(KeyError("date")), describe(SystemExit(2))
    ('no date', 'TimeoutError', "KeyError: 'date'", 'SystemExit: 2')
    """
    name = type(error).__name__
    try:
        text = _fields(error) if isinstance(error, pydantic.ValidationError) else str(error)
    except Exception as broken:  # the text of an exception may depend on a broken value
        text = f"{name}, whose text raises {type(broken).__name__}"
    return f"{name}: {text}" if text and isinstance(error, KeyError | SystemExit) else text or name


def _fields(error: pydantic.ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    places = [f"{'.'.join([error.title, *map(str, detail['loc'])])}: {detail['msg']}" for detail in details[:_FIELDS]]
    more = len(details) - len(places)
    return "; ".join([*places, *([f"{more} more"] if more else [])])


def located(hook: str, function: Callable[..., Any] | None, error: BaseException) -> BaseException:
    """Replace an error of the library by one line with the place in the user's code that caused it.

    The same holds for an error about a value that a hook returned. Errors that the user's code raised are returned
    unchanged, because their stack shows more.
    """
    if not isinstance(error, TypeError | ValueError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    ours = not frames or frames[-1].filename.startswith(LIBRARY)
    text = str(error)
    if not (ours or text.startswith(_MISCALLS)):
        return error
    theirs = [frame for frame in frames if not frame.filename.startswith(LIBRARY)]
    place = f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else _defined_at(function)
    if text == "Missing required argument 'source_offsets'":
        text += _HINT
    if text.startswith(hook):
        return TypeError(f"{text} ({place})")
    return TypeError(f"{hook} at {place}: {text}")


def returned_error(hook: str, value: Any, error: BaseException | None) -> BaseException | None:
    """Return the error of a hook's call, which may be the value it returned."""
    if error is None and value is not None:
        try:
            payloads_of(value)
        except TypeError as exc:
            return TypeError(f"{hook} returned {exc}")
    return error


def _defined_at(function: Callable[..., Any] | None) -> str:
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None) if function else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function)


def root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain of errors.

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
    """Return True if the running task is being cancelled: an exception of a hook is not the hook's fault then."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
