"""The `executor` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drakkar_flow.config.base import Section
from drakkar_flow.config.limits import LimitsConfig
from drakkar_flow.config.persistent import PersistentConfig
from drakkar_flow.config.retry import TaskRetryConfig
from drakkar_flow.kernel.ordering import Ordering

__all__ = ["ExecutorConfig"]


class ExecutorConfig(Section):
    """How external programs are run, and how windows of records are made for them."""

    binary_path: str | None = Field(default=None, min_length=1)
    """The program to run; a task may name another."""
    mode: Literal["oneshot", "persistent"] = "oneshot"
    """A process for each task, or long-lived children that take one task after the other."""
    persistent: PersistentConfig = PersistentConfig()
    """The children of the mode `persistent`."""
    max_executors: int = Field(default=4, ge=1)
    """How many programs run at once."""
    task_timeout_seconds: float = Field(default=120, gt=0)
    """Seconds after which a program and everything it started is killed."""
    window_size: int = Field(default=100, ge=1)
    """The most records one call of `arrange` gets."""
    window_linger_s: float = Field(default=0.0, ge=0)
    """Seconds an incomplete window waits for more records; 0 takes what is there."""
    max_retries: int = Field(default=3, ge=0)
    """How often a task is run again, after RETRY or by `retry`."""
    retry: TaskRetryConfig = TaskRetryConfig()
    """When failed tasks are run again, and which of them by themselves."""
    ordering: Ordering = "unordered"
    """Whose tasks run one at a time, in the order of their offsets: nobody's, those of a partition's records with
    the same key, or all of a partition."""
    unavailable_after_s: float | None = Field(default=None, gt=0)
    """Seconds after which a task fails that waits while no program or child can be started; null lets it wait, and the
    intake with it."""
    drain_timeout_seconds: float = Field(default=20, gt=0)
    """Seconds that work in flight gets to finish at shutdown and when a partition is revoked. A stop takes at most this
    and runtime.close_timeout_s."""
    backpressure_high_multiplier: int = Field(default=32, ge=1)
    """Intake pauses when this many tasks per slot are in flight, or more where that is less than 40 ms of work."""
    backpressure_low_multiplier: int = Field(default=4, ge=1)
    """Intake goes on at full pace when no more than this many tasks per slot are in flight."""
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
