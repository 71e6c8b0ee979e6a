"""The rules for retries as they are written in the configuration."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.config.sections.retry import TaskRetryConfig
from drakkar_flow.kernel.retry import RetryPolicy


def test_by_default_nothing_is_retried_by_itself() -> None:
    """Only on_error decides, as in py-drakkar."""
    policy = ExecutorConfig().retry.policy(3)
    assert (policy.kinds, policy.exit_codes, policy.never_exit_codes, policy.max_elapsed_s) == (set(), set(), set(), 0)
    assert [policy.backoff.ceiling_s(attempt) for attempt in (1, 2, 9)] == [0.1, 0.2, 10.0]


def test_exit_codes_are_numbers_and_ranges() -> None:
    """Both ends of a range count."""
    config = TaskRetryConfig(
        exit_codes=[1, "64-66", " 70 - 71 ", "255"], never_exit_codes=["2"], retry_on=["timeout"], max_elapsed_s=60
    )
    assert config.policy(5) == RetryPolicy(
        config.policy(0).backoff, 5, 60, {"timeout"}, {1, 64, 65, 66, 70, 71, 255}, {2}
    )


@pytest.mark.parametrize("spec", [0, 256, "", "a", "78-64", "0-3", "250-256", "1-2-3", -1, "1,2"])
def test_what_is_no_exit_code_is_told(spec: int | str) -> None:
    """The report names it and shows a range."""
    with pytest.raises(ValidationError, match="no exit code between 1 and 255 and no range of them such as '64-78'"):
        TaskRetryConfig(exit_codes=[spec])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"initial_s": 5, "max_s": 1}, r"initial_s \(5\) is more than max_s \(1\)"),
        ({"retry_on": ["sometimes"]}, "Input should be 'nonzero_exit'"),
        ({"factor": 0.5}, "greater than or equal to 1"),
    ],
)
def test_rules_that_make_no_sense_are_told(wrong: dict[str, object], says: str) -> None:
    """Where they are read, not where they are used."""
    with pytest.raises(ValidationError, match=says):
        TaskRetryConfig(**wrong)
