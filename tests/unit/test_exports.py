"""The public face: what can be imported from drakkar_flow, and what that costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import drakkar_flow

PUBLIC = [
    "AssignedPartition",
    "BaseDrakkarHandler",
    "Cache",
    "CacheLike",
    "CacheScope",
    "CachedExecute",
    "CollectResult",
    "CustomExecutor",
    "CustomPayload",
    "CustomSink",
    "DeliveryAction",
    "DeliveryError",
    "DrakkarApp",
    "DrakkarConfig",
    "DrakkarHandler",
    "ErrorAction",
    "ExecutorError",
    "ExecutorResult",
    "ExecutorTask",
    "FilePayload",
    "FilesystemSink",
    "Handler",
    "HttpPayload",
    "HttpSink",
    "Joined",
    "JsonlSink",
    "KafkaPayload",
    "KafkaSink",
    "KafkaSource",
    "Limits",
    "MessageGroup",
    "MessageParseError",
    "MongoExpr",
    "MongoOp",
    "MongoPayload",
    "MongoSink",
    "ParseFailurePayload",
    "PendingContext",
    "Persistent",
    "PostgresOp",
    "PostgresPayload",
    "PostgresSink",
    "PrecomputedResult",
    "Record",
    "RedisOp",
    "RedisPayload",
    "RedisSink",
    "Session",
    "SinkDeliveryFailedError",
    "Sliding",
    "SourceMessage",
    "SqlitePayload",
    "SqliteSink",
    "StreamFlow",
    "StreamingRunner",
    "Subprocess",
    "Tumbling",
    "Window",
    "WindowResult",
    "__version__",
    "dataflow",
    "format_rfc3339_micro",
    "load_app_config",
    "load_config",
    "make_request_id",
    "make_stable_task_id",
    "make_task_id",
    "periodic",
]
OTHER_NAMES = {"Handler", "MessageParseError", "SinkDeliveryFailedError", "SourceMessage"}
"""Second names of what is public under another, or raised under it."""


def test_the_public_names_are_pinned() -> None:
    """A name that comes or goes is a decision, not an accident."""
    assert drakkar_flow.__all__ == PUBLIC
    assert dir(drakkar_flow) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there(name: str) -> None:
    """Every name resolves, always to the same object."""
    value = getattr(drakkar_flow, name)
    assert value is getattr(drakkar_flow, name)
    assert name == "__version__" or name in {value.__name__, *OTHER_NAMES}


def test_a_name_that_does_not_exist_is_refused_like_any_attribute() -> None:
    """With the words Python uses."""
    with pytest.raises(AttributeError, match="module 'drakkar_flow' has no attribute 'Nonsense'"):
        _ = drakkar_flow.Nonsense


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Neither Bytewax nor Kafka's client nor pydantic, nor any room of the library."""
    code = "import sys, json, drakkar_flow; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    loaded = set(json.loads(run.stdout))
    assert loaded.isdisjoint({"bytewax", "confluent_kafka", "pydantic", "uvloop", "structlog"})
    assert {name for name in loaded if name.startswith("drakkar_flow")} == {"drakkar_flow"}


def test_a_worker_loads_nothing_that_only_commands_need() -> None:
    """Neither rich with its highlighter, nor the command line's library, nor clients of sinks that no flow has."""
    code = "import sys, json; from drakkar_flow import StreamingRunner; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    clients = {"asyncpg", "aiosqlite", "httpx", "pymongo", "redis"}
    assert {name.partition(".")[0] for name in json.loads(run.stdout)}.isdisjoint(
        {"rich", "pygments", "typer", *clients}
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_importing_leaves_the_collector_as_it_was(enabled: bool) -> None:
    """The collector rests only while modules load."""
    code = (
        f"import gc; gc.{'enable' if enabled else 'disable'}(); from drakkar_flow import Handler; print(gc.isenabled())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert run.stdout.strip() == str(enabled)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
