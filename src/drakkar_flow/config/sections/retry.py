"""The `executor.retry` section."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.retry import RetryPolicy
from drakkar_flow.model.task import ErrorKind

__all__ = ["OkExitCodes", "TaskRetryConfig", "exit_codes"]

_MOST: Final = 255  # the largest exit code there is


def exit_codes(spec: int | str, least: int = 1) -> range:
    """The exit codes that `7` or `"64-78"` stands for.

    >>> list(exit_codes("64-66")), list(exit_codes(7))
    ([64, 65, 66], [7])
    """
    match = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?", str(spec))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not least <= first <= last <= _MOST:
        raise ValueError(f"{spec!r} is no exit code between {least} and {_MOST} and no range of them such as '64-78'")
    return range(first, last + 1)


def _checked(specs: list[int | str]) -> list[int | str]:
    for spec in specs:
        exit_codes(spec)
    return specs


def _checked_with_zero(specs: list[int | str]) -> list[int | str]:
    for spec in specs:
        exit_codes(spec, least=0)
    return specs


ExitCodes = Annotated[list[int | str], AfterValidator(_checked)]
OkExitCodes = Annotated[list[int | str], Field(min_length=1), AfterValidator(_checked_with_zero)]


class TaskRetryConfig(Section):
    """Retries of failed tasks, and rules without a call of `on_error`; pauses are between 0 and a growing limit."""

    initial_s: float = Field(default=0.1, gt=0)
    """The longest pause before the first retry, in seconds; pauses are anywhere between 0 and the longest."""
    max_s: float = Field(default=10.0, gt=0)
    """The longest pause before any retry, in seconds."""
    factor: float = Field(default=2.0, ge=1)
    """Growth factor of the pause from one retry to the next."""
    max_elapsed_s: float = Field(default=0.0, ge=0)
    """Seconds after a task's first failure from which on it is not retried any more; 0 sets no end."""
    retry_on: list[ErrorKind] = []
    """Kinds of failures that are retried without asking `on_error`, as long as there are retries left."""
    exit_codes: ExitCodes = []
    """Exit codes, and ranges such as `64-78`, that are retried without asking `on_error`."""
    never_exit_codes: ExitCodes = []
    """Exit codes that are not retried by themselves, whatever the two keys above say."""

    @model_validator(mode="after")
    def _pauses_grow(self) -> TaskRetryConfig:
        if self.initial_s > self.max_s:
            raise ValueError(f"initial_s ({self.initial_s:g}) is more than max_s ({self.max_s:g})")
        return self

    def policy(self, max_retries: int) -> RetryPolicy:
        """The rules in force."""
        return RetryPolicy(
            Backoff(self.initial_s, self.max_s, self.factor),
            max_retries,
            self.max_elapsed_s,
            frozenset(self.retry_on),
            frozenset(code for spec in self.exit_codes for code in exit_codes(spec)),
            frozenset(code for spec in self.never_exit_codes for code in exit_codes(spec)),
        )
