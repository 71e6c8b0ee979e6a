"""Making failures from exceptions."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from drakkar_flow.model.outcome import Failure, FailureKind, Hold

__all__ = ["describe", "failure_of"]

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
    """An exception's text, or its name where it has none; a KeyError's text is a bare key, so it has both.

    >>> describe(ValueError("no date")), describe(TimeoutError()), describe(KeyError("date"))
    ('no date', 'TimeoutError', "KeyError: 'date'")
    """
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, KeyError) else str(error) or name
