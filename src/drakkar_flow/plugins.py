"""Plug-ins: the protocols and specs by which a package adds kinds of sinks and executors; docs/plugins.md shows how.

A sink is a class with `connect`, `write_batch` and `close`. Its `SinkSpec` is an entry point of the group
`drakkar_flow.sinks`, named like its kind, or is passed in code: `CustomSink(SPEC, "name")`,
`DrakkarApp(..., sinks=[SPEC])`.

An executor is a class with `start`, `submit`, `close` and `statistics`. Its `ExecutorSpec` is an entry point of the
group `drakkar_flow.executors`, or is passed in code: `CustomExecutor(SPEC)`, `DrakkarApp(..., executors=[SPEC])`.
"""

from __future__ import annotations

from drakkar_flow.config.redact import SecretUrl
from drakkar_flow.config.sections.delivery import CircuitBreakerConfig, RetryConfig, SinkConfig
from drakkar_flow.errors import (
    BatchFailed,
    Problem,
    RetryAfter,
    SinkError,
    SinkMisconfigured,
    SinkNotConnected,
    SinkRejected,
    StartupError,
)
from drakkar_flow.kinds.executor import (
    Done,
    Executor,
    ExecutorSetup,
    ExecutorSpec,
    ExecutorStatistics,
    Running,
    TaskOutcome,
)
from drakkar_flow.kinds.sink import Sink, SinkSpec
from drakkar_flow.model.base import Payload
from drakkar_flow.model.codec import encode
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.payload import CustomPayload
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = [
    "BatchFailed",
    "CircuitBreakerConfig",
    "CustomPayload",
    "Delivery",
    "Done",
    "Executor",
    "ExecutorError",
    "ExecutorResult",
    "ExecutorSetup",
    "ExecutorSpec",
    "ExecutorStatistics",
    "ExecutorTask",
    "Payload",
    "Problem",
    "Record",
    "RetryAfter",
    "RetryConfig",
    "Running",
    "SecretUrl",
    "Sink",
    "SinkConfig",
    "SinkError",
    "SinkMisconfigured",
    "SinkNotConnected",
    "SinkRejected",
    "SinkSpec",
    "StartupError",
    "TaskOutcome",
    "encode",
]
