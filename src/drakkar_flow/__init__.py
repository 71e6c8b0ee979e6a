"""Run external programs on Kafka records, deliver the results to sinks, commit offsets only after delivery.

The public names. They are loaded on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drakkar_flow._version import __version__
    from drakkar_flow.config.loading.app import load_app_config
    from drakkar_flow.config.loading.load import load_config
    from drakkar_flow.config.root import DrakkarConfig
    from drakkar_flow.engine.app import DrakkarApp
    from drakkar_flow.engine.entrypoint import dataflow
    from drakkar_flow.engine.runner import StreamingRunner
    from drakkar_flow.errors import MessageParseError, SinkDeliveryFailedError
    from drakkar_flow.graph.cache import Cache
    from drakkar_flow.graph.cached_execute import CachedExecute
    from drakkar_flow.graph.flow import StreamFlow
    from drakkar_flow.graph.handler import BaseDrakkarHandler, Handler
    from drakkar_flow.graph.nodes import (
        CustomExecutor,
        CustomSink,
        FilesystemSink,
        HttpSink,
        JsonlSink,
        KafkaSink,
        KafkaSource,
        Limits,
        MongoSink,
        Persistent,
        PostgresSink,
        RedisSink,
        SqliteSink,
        Subprocess,
        Window,
    )
    from drakkar_flow.graph.periodic import periodic
    from drakkar_flow.graph.protocol import DrakkarHandler
    from drakkar_flow.graph.time_windows import Session, Sliding, Tumbling
    from drakkar_flow.model.assignment import AssignedPartition
    from drakkar_flow.model.cache import CacheLike, CacheScope
    from drakkar_flow.model.group import MessageGroup
    from drakkar_flow.model.ids import format_rfc3339_micro, make_request_id, make_stable_task_id, make_task_id
    from drakkar_flow.model.joined import Joined
    from drakkar_flow.model.payload import (
        CollectResult,
        CustomPayload,
        DeliveryAction,
        DeliveryError,
        ParseFailurePayload,
    )
    from drakkar_flow.model.precomputed import PrecomputedResult
    from drakkar_flow.model.record import Record, SourceMessage
    from drakkar_flow.model.task import (
        ErrorAction,
        ExecutorError,
        ExecutorResult,
        ExecutorTask,
        PendingContext,
    )
    from drakkar_flow.model.window_result import WindowResult
    from drakkar_flow.sinks.filesystem.payload import FilePayload
    from drakkar_flow.sinks.http.payload import HttpPayload
    from drakkar_flow.sinks.kafka.payload import KafkaPayload
    from drakkar_flow.sinks.mongo.payload import MongoExpr, MongoOp, MongoPayload
    from drakkar_flow.sinks.postgres.payload import PostgresOp, PostgresPayload
    from drakkar_flow.sinks.redis.payload import RedisOp, RedisPayload
    from drakkar_flow.sinks.sqlite.payload import SqlitePayload

_HOMES = {
    "AssignedPartition": "model.assignment",
    "BaseDrakkarHandler": "graph.handler",
    "Cache": "graph.cache",
    "CacheLike": "model.cache",
    "CacheScope": "model.cache",
    "CachedExecute": "graph.cached_execute",
    "CollectResult": "model.payload",
    "CustomExecutor": "graph.nodes",
    "CustomPayload": "model.payload",
    "CustomSink": "graph.nodes",
    "DeliveryAction": "model.payload",
    "DeliveryError": "model.payload",
    "DrakkarApp": "engine.app",
    "DrakkarConfig": "config.root",
    "DrakkarHandler": "graph.protocol",
    "ErrorAction": "model.task",
    "ExecutorError": "model.task",
    "ExecutorResult": "model.task",
    "ExecutorTask": "model.task",
    "FilePayload": "sinks.filesystem.payload",
    "FilesystemSink": "graph.nodes",
    "Handler": "graph.handler",
    "HttpPayload": "sinks.http.payload",
    "HttpSink": "graph.nodes",
    "Joined": "model.joined",
    "JsonlSink": "graph.nodes",
    "KafkaPayload": "sinks.kafka.payload",
    "KafkaSink": "graph.nodes",
    "KafkaSource": "graph.nodes",
    "Limits": "graph.nodes",
    "MessageGroup": "model.group",
    "MessageParseError": "errors",
    "MongoExpr": "sinks.mongo.payload",
    "MongoOp": "sinks.mongo.payload",
    "MongoPayload": "sinks.mongo.payload",
    "MongoSink": "graph.nodes",
    "ParseFailurePayload": "model.payload",
    "PendingContext": "model.task",
    "Persistent": "graph.nodes",
    "PostgresOp": "sinks.postgres.payload",
    "PostgresPayload": "sinks.postgres.payload",
    "PostgresSink": "graph.nodes",
    "PrecomputedResult": "model.precomputed",
    "Record": "model.record",
    "RedisOp": "sinks.redis.payload",
    "RedisPayload": "sinks.redis.payload",
    "RedisSink": "graph.nodes",
    "Session": "graph.time_windows",
    "SinkDeliveryFailedError": "errors",
    "Sliding": "graph.time_windows",
    "SourceMessage": "model.record",
    "SqlitePayload": "sinks.sqlite.payload",
    "SqliteSink": "graph.nodes",
    "StreamFlow": "graph.flow",
    "StreamingRunner": "engine.runner",
    "Subprocess": "graph.nodes",
    "Tumbling": "graph.time_windows",
    "Window": "graph.nodes",
    "WindowResult": "model.window_result",
    "__version__": "_version",
    "dataflow": "engine.entrypoint",
    "format_rfc3339_micro": "model.ids",
    "load_app_config": "config.loading.app",
    "load_config": "config.loading.load",
    "make_request_id": "model.ids",
    "make_stable_task_id": "model.ids",
    "make_task_id": "model.ids",
    "periodic": "graph.periodic",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from drakkar_flow._imports import collector_paused

    with collector_paused():
        value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
