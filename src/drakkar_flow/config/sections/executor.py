"""The sections `executor` and `executors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.extended import section_with
from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.config.sections.persistent import PersistentConfig
from drakkar_flow.config.sections.retry import OkExitCodes, TaskRetryConfig, exit_codes
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.kernel.redaction import WITHHELD_NAMES, fits, has_credential
from drakkar_flow.kinds.registry import EXECUTORS

__all__ = ["ExecutorConfig", "ProgramConfig", "executor_section"]


class ProgramConfig(Section):
    """A named executor. None of its values comes from the section `executor`."""

    synonyms = {
        **dict.fromkeys(("binary", "command", "cmd", "program", "executable"), "binary_path"),
        **dict.fromkeys(("timeout", "timeout_s", "timeout_seconds"), "task_timeout_seconds"),
        **dict.fromkeys(("concurrency", "parallelism", "processes", "workers"), "max_executors"),
        "working_directory": "cwd",
        "environment": "env",
    }

    binary_path: str | None = Field(default=None, min_length=1)
    """The program to run; a task may name another."""
    mode: Literal["oneshot", "persistent"] = "oneshot"
    """A process for each task, or long-lived children that take one task after the other. The kind of a plug-in has
    its settings beside it, under its name."""
    persistent: PersistentConfig = PersistentConfig()
    """The children of the mode `persistent`."""
    max_executors: int = Field(default=4, ge=1)
    """Maximum of programs that run in parallel."""
    task_timeout_seconds: float = Field(default=120, gt=0)
    """Seconds after which a program and everything it started is killed."""
    ok_exit_codes: OkExitCodes = [0]
    """Exit codes that count as success, and ranges such as `0-2`; 0 counts only if it is listed. A task may
    name others."""
    max_retries: int = Field(default=3, ge=0)
    """Maximum of retries of a task, after RETRY or by `retry`."""
    retry: TaskRetryConfig = TaskRetryConfig()
    """Retries of failed tasks: pauses, and rules without a call of `on_error`."""
    env: dict[str, str] = {}
    """Environment of every program, over the inherited one."""
    unavailable_after_s: float | None = Field(default=None, gt=0)
    """Seconds after which a task fails that waits while no program or child can be started; null lets it wait, and the
    intake with it."""
    env_inherit: Literal["none", "safe", "all"] = "safe"
    """Variables of this process that programs inherit: `none`; `safe`, all but secrets; `all`. `env` passes further
    variables."""
    env_inherit_parent: bool = True
    """False is `env_inherit: none`, where that is not given."""
    env_inherit_deny: list[str] = [*WITHHELD_NAMES]
    """Globs (case-insensitive) of variables that `safe` holds back, beside those that hold secrets of this
    configuration or credentials; an empty list is `env_inherit: all`, where that is not given."""
    cwd: str | None = None
    """Working directory of the programs; None keeps this process's."""
    limits: LimitsConfig = LimitsConfig()
    """Kernel limits of programs."""
    max_stdout_bytes: int = Field(default=16 * 1024 * 1024, ge=0)
    """Bytes of stdout kept per task; the rest is read, dropped and flagged. 0 = no cap."""
    max_stderr_bytes: int = Field(default=1024 * 1024, ge=0)
    """Bytes of stderr kept per task; the rest is read, dropped and flagged. 0 = no cap."""
    kill_grace_s: float = Field(default=2.0, ge=0)
    """Seconds a killed group's pipes are still read before they are abandoned."""

    @model_validator(mode="wrap")
    @classmethod
    def _has_plug_ins(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Any:
        """Take the sections of plug-ins, which only `executor_section` has; the one of `mode` need not be given."""
        base = ExecutorConfig if issubclass(cls, ExecutorConfig) else ProgramConfig
        if isinstance(value, base):
            return value
        kinds = EXECUTORS.usable()
        if isinstance(value, Mapping) and kinds:
            mode = value.get("mode")
            if isinstance(mode, str) and mode in kinds and value.get(mode) is None:
                value = {**value, mode: {}}
            section = executor_section(base)
            if section is not cls and not kinds.keys().isdisjoint(value):
                return section.model_validate(value)
        return handler(value)

    @property
    def inherits(self) -> Literal["none", "safe", "all"]:
        """Variables that programs inherit, by `env_inherit` or py-drakkar's keys.

        >>> ProgramConfig(env_inherit_parent=False).inherits, ProgramConfig(env_inherit_deny=[]).inherits
        ('none', 'all')
        """
        if "env_inherit" in self.model_fields_set:
            return self.env_inherit
        if not self.env_inherit_parent:
            return "none"
        return "safe" if self.env_inherit_deny else "all"

    def inherited(self, parent: Mapping[str, str], is_secret: Callable[[str], bool] = has_credential) -> dict[str, str]:
        """The variables of `parent` that programs inherit; `is_secret` judges a variable by its value.

        >>> ProgramConfig().inherited({"HOME": "/", "db_password": "x", "STORE": "redis://:pw@host"})
        {'HOME': '/'}
        """
        if self.inherits == "none":
            return {}
        if self.inherits == "all":
            return dict(parent)
        globs = self.env_inherit_deny
        return {name: value for name, value in parent.items() if not fits(name, globs) and not is_secret(value)}

    @property
    def success_codes(self) -> frozenset[int]:
        """The exit codes that count as success.

        >>> sorted(ProgramConfig(ok_exit_codes=["0-2", 9]).success_codes)
        [0, 1, 2, 9]
        """
        return frozenset(code for spec in self.ok_exit_codes for code in exit_codes(spec, least=0))

    @model_validator(mode="after")
    def _success_is_not_retried(self) -> Self:
        retried = {code for spec in self.retry.exit_codes for code in exit_codes(spec)}
        if both := sorted(self.success_codes & retried):
            raise ValueError(f"ok_exit_codes and retry.exit_codes both name {both[0]}: a success is not retried")
        return self


class ExecutorConfig(ProgramConfig):
    """The default executor, and the windows of records for it."""

    window_size: int = Field(default=100, ge=1)
    """The most records one call of `arrange` gets."""
    window_linger_s: float = Field(default=0.0, ge=0)
    """Seconds an incomplete window waits for more records; 0 is no wait."""
    ordering: Ordering = "unordered"
    """Tasks that run one at a time, in the order of their offsets: none, those of a partition's records with
    the same key, or all of a partition."""
    drain_timeout_seconds: float = Field(default=20, gt=0)
    """Seconds that work in flight gets to finish at shutdown and when a partition is revoked. A stop takes at most this
    and runtime.close_timeout_s."""
    backpressure_high_multiplier: int = Field(default=32, ge=1)
    """Intake pauses when this many tasks per slot are in flight, or more where that is less than 40 ms of work."""
    backpressure_low_multiplier: int = Field(default=4, ge=1)
    """Intake goes on at full pace when no more than this many tasks per slot are in flight."""


EXECUTORS.reserve([*dir(ExecutorConfig), *ExecutorConfig.model_fields, "oneshot", "default"])

P = TypeVar("P", bound=ProgramConfig)


def executor_section(section: type[P]) -> type[P]:
    """The section with the kinds of executors that plug-ins bring: a mode and a key for each."""
    kinds: dict[str, Any] = {}
    for kind, spec in EXECUTORS.usable().items():
        settings: Any = spec.settings_type
        kinds[kind] = (settings | None, None)
    if kinds:
        kinds["mode"] = (Literal[("oneshot", "persistent", *kinds)], "oneshot")
    return section_with(section, kinds)
