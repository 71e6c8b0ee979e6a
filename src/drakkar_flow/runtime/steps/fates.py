"""Fates: the result of a write for each payload, judged by the exception of the sink. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from drakkar_flow.errors import BatchFailed, RetryAfter, SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected
from drakkar_flow.model.outcome import Delivery

__all__ = ["Fates", "asked_pause_s", "fates_of", "is_fault", "is_outage"]

_REFUSALS = (SinkRejected, SinkMisconfigured)
_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError),
    *(RecursionError, TypeError, ValueError),
)
_OUTAGES = (OSError, TimeoutError, RetryAfter, SinkNotConnected)
_LONGEST_PAUSE_S = 300.0
"""No target may ask for more."""


class Fates(NamedTuple):
    """Result of one write: durable payloads, payloads to try again, payloads never to try again, and the causes."""

    done: list[Delivery]
    again: list[Delivery]
    refused: list[tuple[Delivery, Exception]]
    error: Exception | None = None
    suspect: bool = False
    """True if one of several payloads in `again` is the reason, and `error` does not name it."""
    target: bool = False
    """True if the target failed, for all of `again`."""
    proved: bool = False
    """True if the sink wrote others after each payload of `again` had failed: so the sink works."""
    causes: Mapping[int, Exception] = MappingProxyType({})
    """Payloads of `again`, by their `id`, whose own cause is known."""


def fates_of(batch: list[Delivery], error: Exception | None) -> Fates:
    """Judge a write by the exception it raised."""
    if error is None:
        return Fates(batch, [], [])
    if isinstance(error, BatchFailed):
        return _named(batch, error)
    if isinstance(error, SinkRejected) or (is_fault(error) and len(batch) == 1):
        return Fates([], [], [(delivery, error) for delivery in batch], error)
    target = isinstance(error, SinkError | OSError | TimeoutError)
    return Fates([], batch, [], error, suspect=len(batch) > 1 and not target, target=target)


def is_fault(error: BaseException) -> bool:
    """Return True if a value or the code is wrong, such as a TypeError: another try would be pointless.

    >>> is_fault(ValueError("no date")), is_fault(ConnectionError("reset")), is_fault(RuntimeError("pool is busy"))
    (True, False, False)
    """
    return isinstance(error, _FAULTS) and not isinstance(error, OSError)


def is_outage(error: Exception) -> bool:
    """Return True if the target itself is away or asks for a pause, at least for one of the payloads."""
    return any(isinstance(cause, _OUTAGES) for cause in _causes(error))


def asked_pause_s(error: Exception) -> float | None:
    """Return the longest pause that the target of a failed write asked for; None if it asked for none."""
    asked = [cause.delay_s for cause in _causes(error) if isinstance(cause, RetryAfter)]
    return min(max(0.0, *asked), _LONGEST_PAUSE_S) if asked else None


def _causes(error: Exception) -> Iterable[Exception]:
    return error.failures.values() if isinstance(error, BatchFailed) else (error,)


def _named(batch: list[Delivery], error: BatchFailed) -> Fates:
    failures = error.failures
    if not all(0 <= index < len(batch) for index in failures):
        return Fates([], batch, [], error)  # it names payloads that were not in the batch: believe none of it
    done = [delivery for index, delivery in enumerate(batch) if index not in failures]
    final = [index for index, cause in failures.items() if isinstance(cause, _REFUSALS) or is_fault(cause)]
    again = [index for index in failures if index not in set(final)]
    last_done = max((index for index in range(len(batch)) if index not in failures), default=-1)
    return Fates(
        done,
        [batch[index] for index in again],
        [(batch[index], failures[index]) for index in final],
        error,
        proved=bool(again) and max(again) < last_done,
        causes={id(batch[index]): failures[index] for index in again},
    )
