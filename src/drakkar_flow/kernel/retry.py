"""Retry policy: rules for retries without a call of `on_error`, with pauses and limits."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.task import ExecutorError

__all__ = ["RetryBound", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryBound:
    """Limits of repeated attempts: rounds, and seconds since the first failure; 0 is no limit.

    >>> bound = RetryBound(times=2, elapsed_s=60)
    >>> bound.spent(1, 59), bound.spent(2, 0), bound.spent(0, 60)
    ('', 'after 2 retries', 'after 60 s')
    """

    times: int = 0
    elapsed_s: float = 0.0

    def spent(self, retries: int, elapsed_s: float) -> str:
        """The exceeded limit in words; empty while another attempt is allowed."""
        if 0 < self.times <= retries:
            return f"after {retries} retries"
        return f"after {elapsed_s:.3g} s" if 0 < self.elapsed_s <= elapsed_s else ""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_retries` retries of a task, none later than `max_elapsed_s` after its first failure (0: no end).

    A failure is retried by rule if its kind is among `kinds` or its exit code among
    `exit_codes`, but never with an exit code in `never_exit_codes`.

    >>> from drakkar_flow.model.task import ExecutorTask
    >>> policy = RetryPolicy(Backoff(1.0, 10.0), max_retries=2, kinds={"timeout"}, exit_codes={75})
    >>> task = ExecutorTask(task_id="t", source_offsets=[1])
    >>> [policy.is_transient(ExecutorError(task=task, exit_code=code)) for code in (1, 75)]
    [False, True]
    >>> [policy.pause_s(retries, 0.0, random=lambda: 0.5) for retries in (0, 1, 2)]
    [0.5, 1.0, None]
    """

    backoff: Backoff
    max_retries: int
    max_elapsed_s: float = 0.0
    kinds: Collection[str] = frozenset()
    exit_codes: Collection[int] = frozenset()
    never_exit_codes: Collection[int] = frozenset()

    def is_transient(self, error: ExecutorError) -> bool:
        """True if a rule retries the failure."""
        if error.exit_code in self.never_exit_codes:
            return False
        return error.kind in self.kinds or error.exit_code in self.exit_codes

    def pause_s(self, retries: int, elapsed_s: float, random: Callable[[], float]) -> float | None:
        """Return the pause before a task's next attempt; None if no retry is left.

        `retries` is the number of past retries, `elapsed_s` the time since the first failure; `random`
        returns numbers in [0, 1).
        """
        if retries >= self.max_retries:
            return None
        pause_s = self.backoff.delay_s(retries + 1, random)
        return None if 0 < self.max_elapsed_s < elapsed_s + pause_s else pause_s
