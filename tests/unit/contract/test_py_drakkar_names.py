"""What py-drakkar documents: each name, each field of its models, each default. Ours may have more, never less."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest

import drakkar_flow
from drakkar_flow import (
    BaseDrakkarHandler,
    CacheScope,
    DeliveryAction,
    DrakkarApp,
    ErrorAction,
    Handler,
    Record,
    SourceMessage,
)

OF_0_9 = """
    BaseDrakkarHandler CollectResult DeliveryAction DeliveryError DrakkarApp DrakkarConfig DrakkarHandler ErrorAction
    ExecutorError ExecutorResult ExecutorTask FilePayload HttpPayload KafkaPayload MongoPayload PendingContext
    PostgresPayload RedisPayload SourceMessage load_config make_task_id
"""
OF_0_11 = "CacheScope MessageGroup PrecomputedResult"
OF_2_4 = """
    CacheLike CustomPayload MessageParseError ParseFailurePayload PostgresOp RedisOp SinkDeliveryFailedError
    format_rfc3339_micro make_request_id make_stable_task_id
"""

REQUIRED = object()
PAYLOAD: dict[str, Any] = {"sink": ""}
FIELDS: dict[str, dict[str, Any]] = {
    "SourceMessage": {
        **dict.fromkeys(["topic", "partition", "offset"], REQUIRED),
        "key": None,
        "payload": None,
        "parse_error": None,
    },
    "ExecutorTask": {
        "task_id": REQUIRED,
        "args": [],
        "metadata": {},
        "source_offsets": REQUIRED,
        "labels": {},
        "binary_path": None,
        "stdin": None,
        "env": {},
        "precomputed": None,
        "parent_task_id": None,
    },
    "PrecomputedResult": {"stdout": "", "stderr": "", "exit_code": 0, "duration_seconds": 0.0},
    "ExecutorResult": {
        "task": REQUIRED,
        "pid": None,
        "spawn_seconds": None,
        "stdout_truncated": False,
        "stderr_truncated": False,
    },
    "ExecutorError": {
        "task": REQUIRED,
        "exit_code": None,
        "stderr": "",
        "exception": None,
        "pid": None,
        "kind": "nonzero_exit",
    },
    "MessageGroup": {"source_message": REQUIRED, "tasks": [], "results": [], "errors": []},
    "CollectResult": {kind: [] for kind in ("kafka", "postgres", "mongo", "http", "redis", "files", "custom")},
    "DeliveryError": dict.fromkeys(["sink_name", "sink_type", "error", "payloads"], REQUIRED),
    "KafkaPayload": {**PAYLOAD, "key": None, "data": REQUIRED},
    "HttpPayload": {**PAYLOAD, "data": REQUIRED},
    "FilePayload": {**PAYLOAD, "path": REQUIRED, "data": REQUIRED},
    "CustomPayload": {"sink": REQUIRED, "data": REQUIRED},
    "PostgresPayload": {
        **PAYLOAD,
        "op": "insert",
        "table": "",
        "data": None,
        "where": None,
        "conflict": [],
        "update_columns": None,
        "statement": "",
        "params": None,
    },
    "MongoPayload": {
        **PAYLOAD,
        "op": "insert",
        "collection": "",
        "data": None,
        "filter": None,
        "statement": "",
        "params": None,
    },
    "RedisPayload": {
        **PAYLOAD,
        "op": "set",
        "key": "",
        "script": "",
        "keys": [],
        "args": [],
        **dict.fromkeys(["data", "ttl", "fields", "members", "amount", "side", "start", "stop"]),
    },
    "ParseFailurePayload": dict.fromkeys(["topic", "partition", "offset", "raw_value", "parse_error"], REQUIRED),
}
PRESENT = ["started_at", "finished_at", "value", "timestamp", "exit_code", "stdout", "stderr", "duration_seconds"]
"""Fields that are required there and have a default here, or whose default is a time."""


@pytest.mark.parametrize("name", (OF_0_9 + OF_0_11 + OF_2_4).split())
def test_a_name_of_py_drakkar_imports_from_here(name: str):
    """Only the import line changes."""
    assert name in drakkar_flow.__all__
    assert getattr(drakkar_flow, name) is not None


@pytest.mark.parametrize("name", FIELDS)
def test_a_model_has_the_fields_and_defaults_of_py_drakkars(name: str):
    """What is required there and not given here is told at once; no default differs."""
    ours = {field.name: default_of(field) for field in msgspec.structs.fields(getattr(drakkar_flow, name))}
    assert {field: ours[field] for field in FIELDS[name]} == FIELDS[name]


def default_of(field: Any) -> Any:
    """A field's default as a handler meets it."""
    if field.required:
        return REQUIRED
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def test_the_fields_that_are_laxer_here_have_their_names():
    """Whoever gives them all is right in both."""
    message = SourceMessage(topic="t", partition=0, offset=1, key=None, value=b"", timestamp=5)
    task = drakkar_flow.ExecutorTask(task_id="t", args=[], source_offsets=[1])
    result = drakkar_flow.ExecutorResult(exit_code=0, stdout="", stderr="", duration_seconds=0.1, task=task)
    group = drakkar_flow.MessageGroup(source_message=message, started_at=1.0, finished_at=2.0)
    given = {*message.__struct_fields__, *result.__struct_fields__, *group.__struct_fields__}
    assert given.issuperset(PRESENT)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (ErrorAction, {"RETRY": "retry", "SKIP": "skip"}),
        (DeliveryAction, {"DLQ": "dlq", "RETRY": "retry", "SKIP": "skip"}),
        (CacheScope, {"MEMORY": "memory", "LOCAL": "local", "CLUSTER": "cluster", "GLOBAL": "global"}),
    ],
)
def test_choices_have_the_names_and_values_of_py_drakkars(kind: Any, members: dict[str, str]):
    """As names, and as the text that is compared or stored."""
    assert {member.name: member.value for member in kind}.items() >= members.items()


def test_second_names_are_the_same_thing():
    """So that either may be written, and isinstance works with both."""
    assert Handler is BaseDrakkarHandler
    assert SourceMessage is Record


def test_an_app_takes_the_arguments_in_py_drakkars_order():
    """Positional calls work too."""
    assert list(inspect.signature(DrakkarApp).parameters) == ["handler", "config_path", "config", "worker_id"]
