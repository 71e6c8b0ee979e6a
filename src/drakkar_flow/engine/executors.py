"""From the configuration and the flow's execute step to its executor and the bound of its intake."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from drakkar_flow.config.executor import ExecutorConfig
from drakkar_flow.config.explain import explain
from drakkar_flow.config.layers import Layer
from drakkar_flow.config.limits import LimitsConfig
from drakkar_flow.config.persistent import PersistentConfig
from drakkar_flow.errors import ConfigError, Problem
from drakkar_flow.executor.base import Executor
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.graph.nodes import Execute, Persistent
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.intake import Intake
from drakkar_flow.runtime.source import ExecutorIntake

__all__ = ["executor_config", "intake_of", "make_executor"]


def executor_config(config: ExecutorConfig, execute: Execute | None, withheld: Sequence[str] = ()) -> ExecutorConfig:
    """The configuration with what the flow says laid over it; programs do not inherit the variables `withheld`.

    Raises:
        ConfigError: when what the flow says about its programs does not fit.
    """
    if execute is None:
        return config
    program = execute.program
    given: dict[str, Any] = {
        "env_inherit_deny": [*config.env_inherit_deny, *map(glob.escape, withheld)] if withheld else None,
        "binary_path": program.binary,
        "task_timeout_seconds": program.timeout_s,
        "limits": _limits(config.limits, execute),
    }
    if isinstance(program, Persistent):
        given |= {"mode": "persistent", "persistent": _children(config.persistent, program)}
    else:
        given["max_executors"] = program.max_executors
    return config.model_copy(update={key: value for key, value in given.items() if value is not None})


def _limits(config: LimitsConfig, execute: Execute) -> LimitsConfig:
    given = {key: value for key, value in asdict(execute.program.limits).items() if value is not None}
    try:
        return LimitsConfig.model_validate({**config.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        layer = Layer(origins={(): f"step {execute.stem}, limits"})
        problems = [explain(details, layer, LimitsConfig) for details in error.errors(include_url=False)]
        raise ConfigError(problems) from None


def _children(config: PersistentConfig, program: Persistent) -> PersistentConfig:
    given = {
        "args": program.args,
        "protocol": program.protocol,
        "answer": program.answer,
        "children": program.children,
        "max_in_flight_per_child": program.max_in_flight_per_child,
        **program.settings,
    }
    told = {key: value for key, value in given.items() if value is not None}
    try:
        return PersistentConfig.model_validate({**config.model_dump(exclude_unset=True), **told})
    except ValidationError as exc:
        remedy = "mend what the flow gives to Persistent(...)"
        problems = [
            Problem(".".join(["executor.persistent", *map(str, error["loc"])]), error["msg"], remedy)
            for error in exc.errors(include_url=False)
        ]
        raise ConfigError(problems) from None


def make_executor(config: ExecutorConfig, bus: Bus) -> Executor:
    """The executor of the configured mode."""
    oneshot = OneshotExecutor(config, bus)
    if config.mode == "oneshot":
        return oneshot
    from drakkar_flow.executor.persistent.pool import PersistentExecutor  # only who has such children waits for it

    return PersistentExecutor(config, bus, oneshot if config.persistent.fallback_oneshot else None)


def intake_of(executor: Executor, flight: Flight, config: ExecutorConfig) -> ExecutorIntake:
    """The intake's bound for an executor."""
    intake = Intake(config.backpressure_high_multiplier, config.backpressure_low_multiplier)
    return ExecutorIntake(intake, executor, flight)
