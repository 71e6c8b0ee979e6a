"""From the configuration and the flow's execute step to its executor and the bound of its intake."""

from __future__ import annotations

from drakkar_flow.config.executor import ExecutorConfig
from drakkar_flow.executor.base import Executor
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.graph.nodes import Execute
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.intake import Intake
from drakkar_flow.runtime.source import ExecutorIntake

__all__ = ["executor_config", "intake_of", "make_executor"]


def executor_config(config: ExecutorConfig, execute: Execute | None) -> ExecutorConfig:
    """The configuration with what the flow says laid over it."""
    if execute is None:
        return config
    program = execute.program
    given = {
        "binary_path": program.binary,
        "max_executors": program.max_executors,
        "task_timeout_seconds": program.timeout_s,
    }
    return config.model_copy(update={key: value for key, value in given.items() if value is not None})


def make_executor(config: ExecutorConfig, bus: Bus) -> Executor:
    """The executor of the configured mode."""
    return OneshotExecutor(config, bus)


def intake_of(executor: Executor, flight: Flight, config: ExecutorConfig) -> ExecutorIntake:
    """The intake's bound for an executor."""
    high = config.max_executors * config.backpressure_high_multiplier
    low = min(high - 1, max(1, config.max_executors * config.backpressure_low_multiplier))
    return ExecutorIntake(Intake(high, low), executor, flight)
