"""The `executor` section."""

from __future__ import annotations

from pydantic import Field

from drakkar_flow.config.base import Section
from drakkar_flow.config.limits import LimitsConfig

__all__ = ["ExecutorConfig"]


class ExecutorConfig(Section):
    """How external programs are run, and how windows of records are made for them."""

    binary_path: str | None = Field(default=None, min_length=1)
    """The program to run; a task may name another."""
    max_executors: int = Field(default=4, ge=1)
    """How many programs run at once."""
    task_timeout_seconds: float = Field(default=120, gt=0)
    """Seconds after which a program and everything it started is killed."""
    window_size: int = Field(default=100, ge=1)
    """The most records one call of `arrange` gets."""
    window_linger_s: float = Field(default=0.0, ge=0)
    """Seconds an incomplete window waits for more records; 0 takes what is there."""
    max_retries: int = Field(default=3, ge=0)
    """How often a task is run again after RETRY."""
    drain_timeout_seconds: float = Field(default=30, gt=0)
    """Seconds that work in flight gets to finish at shutdown and when a partition is revoked."""
    backpressure_high_multiplier: int = Field(default=32, ge=1)
    """Intake pauses when max_executors times this many tasks are in flight."""
    backpressure_low_multiplier: int = Field(default=4, ge=1)
    """Intake resumes when no more than max_executors times this many tasks are in flight."""
    env: dict[str, str] = {}
    """Environment of every program, over the inherited one."""
    env_inherit_parent: bool = True
    """Whether programs inherit this process's environment."""
    env_inherit_deny: list[str] = [
        *("DK_*", "DRAKKAR_*", "*PASSWORD*", "*PASSWD*", "*SECRET*"),
        *("*TOKEN*", "*_KEY", "*_DSN", "*CREDENTIAL*", "*SALT*"),
    ]
    """Globs (case-insensitive) of variables that are never inherited."""
    cwd: str | None = None
    """Working directory of the programs; None keeps this process's."""
    limits: LimitsConfig = LimitsConfig()
    """What the kernel lets programs take."""
    max_stdout_bytes: int = Field(default=16 * 1024 * 1024, ge=0)
    """Bytes of stdout kept per task; the rest is read, dropped and flagged. 0 = no cap."""
    max_stderr_bytes: int = Field(default=1024 * 1024, ge=0)
    """Bytes of stderr kept per task; the rest is read, dropped and flagged. 0 = no cap."""
    kill_grace_s: float = Field(default=2.0, ge=0)
    """Seconds a killed group's pipes are still read before they are abandoned."""
