"""Executors of a flow, built from the configuration and the execute step, and the bound of their intake."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.loading.validation_errors import validation_problem
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.executor import ExecutorConfig, ProgramConfig, executor_section
from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.config.sections.persistent import PersistentConfig
from drakkar_flow.errors import ConfigError, Problem
from drakkar_flow.executor.base import Executor
from drakkar_flow.executor.named import NamedExecutors
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.executor.plugged import PluggedExecutor
from drakkar_flow.graph.nodes import CustomExecutor, Execute, Persistent, Program, Subprocess
from drakkar_flow.kinds.executor import ExecutorSetup
from drakkar_flow.kinds.registry import EXECUTORS
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.named_bus import NamedBus
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.admission import AdmissionControl
from drakkar_flow.runtime.source import ExecutorAdmission

__all__ = ["executor_config", "intake_of", "make_executor", "make_executors", "program_configs"]

C = TypeVar("C", bound=ProgramConfig)


def program_configs(
    config: DrakkarConfig, execute: Execute | None, environ: Mapping[str, str] | None = None
) -> dict[str, ProgramConfig]:
    """Return the settings of every executor by name, empty for the default one; settings in the flow take precedence.

    Programs do not inherit variables of `environ` that hold secrets, unless `env_inherit` of the executor is `all`.

    Raises:
        ConfigError: the flow's settings of its programs are invalid.
    """
    named = {program.name: program for program in execute.named} if execute is not None else {}
    configs: dict[str, ProgramConfig] = {"": executor_config(config.executor, execute)}
    for name in (*config.executors, *(name for name in named if name not in config.executors)):
        settings = config.executors.get(name, ProgramConfig())
        configs[name] = _merged(settings, named[name], f"executors.{name}") if name in named else settings
    return {
        name: _withholding(program, config.withheld_variables(environ or {}, program))
        for name, program in configs.items()
    }


def _withholding(program: C, names: Sequence[str]) -> C:
    """Return the settings for programs that do not inherit the variables `names`."""
    if not names:
        return program
    return program.model_copy(update={"env_inherit_deny": [*program.env_inherit_deny, *map(glob.escape, names)]})


def executor_config(config: ExecutorConfig, execute: Execute | None) -> ExecutorConfig:
    """Return the settings of the default executor; settings in the flow take precedence.

    Raises:
        ConfigError: the flow's settings of its program are invalid.
    """
    return config if execute is None else _merged(config, execute.program, "executor", f"step {execute.stem}, limits")


def _merged(config: C, program: Program | CustomExecutor, section: str, limits_at: str = "") -> C:
    if isinstance(program, CustomExecutor):
        return _plugged(config, program, section)
    given: dict[str, Any] = {
        "binary_path": program.binary,
        "task_timeout_seconds": program.timeout_s,
        "limits": _limits(config.limits, program, limits_at or f"{section}.limits"),
    }
    if program.ok_exit_codes is not None:
        given["ok_exit_codes"] = list(program.ok_exit_codes)
    if isinstance(program, Persistent):
        given |= {"mode": "persistent", "persistent": _children(config.persistent, program, section)}
    else:
        given["max_executors"] = program.max_executors
    changed = {key: value for key, value in given.items() if value is not None}
    if program.ok_exit_codes is None:  # everything else was checked before
        return config.model_copy(update=changed)
    try:
        return type(config).model_validate({**dict(config), **changed})
    except ValidationError as exc:
        remedy = f"fix ok_exit_codes of {type(program).__name__}(...) in the flow"
        raise ConfigError([Problem(section, error["msg"], remedy) for error in exc.errors(include_url=False)]) from None


def _plugged(config: C, program: CustomExecutor, section: str) -> C:
    """Return the settings of a plug-in's executor; settings in the flow take precedence."""
    kind = program.kind_name
    broken = EXECUTORS.broken().get(kind)
    if broken is not None:
        raise ConfigError([Problem(section, f"{broken.where}: {broken.what}", broken.remedy)])
    given: dict[str, Any] = {
        "task_timeout_seconds": program.timeout_s,
        "max_executors": program.max_executors,
        "ok_exit_codes": None if program.ok_exit_codes is None else list(program.ok_exit_codes),
    }
    settings = getattr(config, kind, None)
    own = {} if settings is None else settings.model_dump(exclude_unset=True)
    changed = {key: value for key, value in given.items() if value is not None}
    base = ExecutorConfig if isinstance(config, ExecutorConfig) else ProgramConfig
    values = {**dict(config), **changed, "mode": kind, kind: {**own, **program.settings}}
    layer = Layer(origins={(): f"{section} of the flow,"})
    try:
        return cast("C", executor_section(base).model_validate(values))
    except ValidationError as error:
        raise ConfigError(
            [validation_problem(each, layer, executor_section(base)) for each in error.errors()]
        ) from None


def _limits(config: LimitsConfig, program: Subprocess | Persistent, place: str) -> LimitsConfig:
    given = {key: value for key, value in asdict(program.limits).items() if value is not None}
    try:
        return LimitsConfig.model_validate({**config.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        layer = Layer(origins={(): place})
        problems = [validation_problem(details, layer, LimitsConfig) for details in error.errors(include_url=False)]
        raise ConfigError(problems) from None


def _children(config: PersistentConfig, program: Persistent, section: str) -> PersistentConfig:
    given = {
        "args": program.args,
        "protocol": program.protocol,
        "answer": program.answer,
        "children": program.children,
        "max_in_flight_per_child": program.max_in_flight_per_child,
        **program.settings,
    }
    explicit = {key: value for key, value in given.items() if value is not None}
    try:
        return PersistentConfig.model_validate({**config.model_dump(exclude_unset=True), **explicit})
    except ValidationError as exc:
        remedy = "fix the arguments of Persistent(...) in the flow"
        problems = [
            Problem(".".join([f"{section}.persistent", *map(str, error["loc"])]), error["msg"], remedy)
            for error in exc.errors(include_url=False)
        ]
        raise ConfigError(problems) from None


def make_executors(configs: Mapping[str, ProgramConfig], bus: Bus) -> Executor:
    """Make one executor for all names; a single default executor is returned as such."""
    made = {name: make_executor(config, NamedBus(bus, name) if name else bus, name) for name, config in configs.items()}
    return made[""] if len(made) == 1 else NamedExecutors(made)


def make_executor(config: ProgramConfig, bus: Bus, name: str = "") -> Executor:
    """Make an executor of the configured mode."""
    plug_in = EXECUTORS.usable().get(config.mode)
    if plug_in is not None:
        setup = ExecutorSetup(name, config.max_executors, config.task_timeout_seconds, config.success_codes)
        return PluggedExecutor(plug_in.kind, plug_in.make(getattr(config, plug_in.kind), setup), bus)
    oneshot = OneshotExecutor(config, bus)
    if config.mode == "oneshot":
        return oneshot
    from drakkar_flow.executor.persistent.pool import PersistentExecutor  # imported only if it is used

    return PersistentExecutor(config, bus, oneshot if config.persistent.fallback_oneshot else None)


def intake_of(executor: Executor, in_flight: InFlight, config: ExecutorConfig) -> ExecutorAdmission:
    """Return the intake bound for an executor."""
    intake = AdmissionControl(config.backpressure_high_multiplier, config.backpressure_low_multiplier)
    return ExecutorAdmission(intake, executor, in_flight)
