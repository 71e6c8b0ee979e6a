"""What py-drakkar documents: each name, each field of its models, each default. Ours may have more, never less."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import drakkar_flow
from drakkar_flow import (
    BaseDrakkarHandler,
    CacheScope,
    DeliveryAction,
    DrakkarApp,
    DrakkarHandler,
    ErrorAction,
    Handler,
    Record,
    SourceMessage,
)

OF_0_9 = """
    BaseDrakkarHandler CollectResult DeliveryAction DeliveryError DrakkarApp DrakkarConfig DrakkarHandler ErrorAction
    ExecutorError ExecutorResult ExecutorTask FilePayload HttpPayload KafkaPayload MongoPayload PendingContext
    PostgresPayload RedisPayload SourceMessage load_config make_task_id periodic
"""
OF_0_11 = "CacheScope MessageGroup PrecomputedResult"
OF_2_4 = """
    CacheLike CustomPayload MessageParseError ParseFailurePayload PostgresOp RedisOp SinkDeliveryFailedError
    format_rfc3339_micro load_app_config make_request_id make_stable_task_id
"""
NOT_THERE = """
    AnnotatorLike KafkaSourceConfig NoOpTimelineEventEmitter SinkDeliverySummary SourcesConfig TaskOrigin
    TimelineEventEmitter TimelineMatch WebAppConfig WebClientConfig WebReport WebRequestContext probe_field
"""
PAGE = Path(drakkar_flow.__file__).parents[2] / "docs" / "migrating-from-py-drakkar.md"

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
def test_a_name_of_py_drakkar_imports_from_here(name: str) -> None:
    """Only the import line changes. What has no use here yet is not offered to others."""
    assert name in drakkar_flow.__all__
    assert getattr(drakkar_flow, name) is not None


@pytest.mark.parametrize("name", FIELDS)
def test_a_model_has_the_fields_and_defaults_of_py_drakkars(name: str) -> None:
    """What is required there and not given here is told at once; no default differs."""
    ours = {field.name: default_of(field) for field in msgspec.structs.fields(getattr(drakkar_flow, name))}
    assert {field: ours[field] for field in FIELDS[name]} == FIELDS[name]


@pytest.mark.parametrize("name", NOT_THERE.split())
def test_a_name_without_use_here_is_said_to_be_not_there(name: str) -> None:
    """With a reason, on the page about migrating."""
    assert name not in drakkar_flow.__all__
    (row,) = [line for line in PAGE.read_text().splitlines() if f"`{name}`" in line]
    assert "not there" in row


def test_the_page_about_migrating_has_every_name_and_field() -> None:
    """None is left to be found out."""
    told = set(re.findall(r"`([\w.]+)", PAGE.read_text()))
    names = {*OF_0_9.split(), *OF_0_11.split(), *OF_2_4.split(), *NOT_THERE.split()}
    fields = {field for model in FIELDS if model != "ParseFailurePayload" for field in FIELDS[model]}
    assert (names | fields | set(PRESENT)) - told == set()


def default_of(field: Any) -> Any:
    """A field's default as a handler meets it."""
    if field.required:
        return REQUIRED
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def test_the_fields_that_are_laxer_here_have_their_names() -> None:
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
def test_choices_have_the_names_and_values_of_py_drakkars(kind: Any, members: dict[str, str]) -> None:
    """As names, and as the text that is compared or stored."""
    assert {member.name: member.value for member in kind}.items() >= members.items()


def test_second_names_are_the_same_thing() -> None:
    """So that either may be written, and isinstance works with both."""
    assert Handler is BaseDrakkarHandler
    assert SourceMessage is Record


def test_a_handler_has_every_hook_of_the_protocol() -> None:
    """A class without hooks has none, whatever it inherits."""
    assert isinstance(Handler(), DrakkarHandler)
    assert not isinstance(object(), DrakkarHandler)


def test_an_app_takes_the_arguments_in_py_drakkars_order() -> None:
    """Positional calls work too."""
    parameters = inspect.signature(DrakkarApp).parameters.values()
    by_position = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert by_position == ["handler", "config_path", "config", "worker_id"]
