"""Payloads: what each kind of sink is sent, checked where it is made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from drakkar_flow import (
    CollectResult,
    CustomPayload,
    FilePayload,
    HttpPayload,
    KafkaPayload,
    MongoOp,
    MongoPayload,
    PostgresOp,
    PostgresPayload,
    RedisOp,
    RedisPayload,
    SqlitePayload,
)
from drakkar_flow.model.codec import encode, to_row
from drakkar_flow.model.payload import Payload, payloads_of

COMPLETE: dict[type[Any], dict[Any, dict[str, Any]]] = {
    PostgresPayload: {
        PostgresOp.INSERT: {"table": "t", "data": {"a": 1}},
        PostgresOp.UPDATE: {"table": "t", "data": {"a": 1}, "where": {"id": 1}},
        PostgresOp.UPSERT: {"table": "t", "data": {"a": 1}, "conflict": ["id"]},
        PostgresOp.STATEMENT: {"statement": "claim"},
    },
    MongoPayload: {
        MongoOp.INSERT: {"collection": "c", "data": {"a": 1}},
        MongoOp.UPDATE_ONE: {"collection": "c", "data": {"a": 1}, "filter": {"id": 1}},
        MongoOp.UPDATE_MANY: {"collection": "c", "data": {"a": 1}, "filter": {"id": 1}},
        MongoOp.UPSERT: {"collection": "c", "data": {"a": 1}, "filter": {"id": 1}},
        MongoOp.DELETE_ONE: {"collection": "c", "filter": {"id": 1}},
        MongoOp.DELETE_MANY: {"collection": "c", "filter": {"id": 1}},
        MongoOp.STATEMENT: {"statement": "claim"},
    },
    RedisPayload: {
        RedisOp.SET: {"key": "k", "data": {"a": 1}},
        RedisOp.DELETE: {"key": "k"},
        RedisOp.EXPIRE: {"key": "k", "ttl": 60},
        RedisOp.INCRBY: {"key": "k", "amount": 0},
        RedisOp.HSET: {"key": "k", "fields": {"a": 1}},
        RedisOp.HDEL: {"key": "k", "fields": ["a"]},
        RedisOp.PUSH: {"key": "k", "data": {"a": 1}},
        RedisOp.TRIM: {"key": "k", "start": 0, "stop": -1},
        RedisOp.SADD: {"key": "k", "members": ["m"]},
        RedisOp.SREM: {"key": "k", "members": ["m"]},
        RedisOp.ZADD: {"key": "k", "members": {"m": 1.5}},
        RedisOp.SCRIPT: {"script": "cap", "keys": ["k"]},
    },
}
OPTIONAL: dict[type[Any], dict[Any, dict[str, Any]]] = {
    PostgresPayload: {
        PostgresOp.UPSERT: {"update_columns": ["a"]},
        PostgresOp.STATEMENT: {"params": {"id": 1}},
    },
    MongoPayload: {MongoOp.STATEMENT: {"params": {"id": 1}}},
    RedisPayload: {
        RedisOp.SET: {"ttl": 60},
        RedisOp.PUSH: {"side": "right"},
        RedisOp.SCRIPT: {"args": ["x", 1]},
    },
}
FIELDS: dict[type[Any], dict[str, Any]] = {
    kind: {name: value for each in [*ops.values(), *OPTIONAL[kind].values()] for name, value in each.items()}
    for kind, ops in COMPLETE.items()
}
OPS = [pytest.param(kind, op, id=f"{kind.__name__}-{op}") for kind, ops in COMPLETE.items() for op in ops]


class Row(BaseModel):
    """A pydantic model."""

    id: int = 1


class Struct(msgspec.Struct):
    """A msgspec struct."""

    id: int = 1


@dataclass
class Data:
    """A dataclass."""

    id: int = 1


@pytest.mark.parametrize(("kind", "op"), OPS)
def test_an_op_takes_its_fields_by_its_name_or_its_text(kind: type[Any], op: Any) -> None:
    """With and without the optional ones."""
    complete = COMPLETE[kind][op]
    payload = kind(op=op, **complete)
    assert payload == kind(op=str(op), **complete)
    assert payload.op is op
    assert kind(op=op, **complete, **OPTIONAL[kind].get(op, {})).sink == ""


@pytest.mark.parametrize(("kind", "op"), OPS)
def test_an_op_refuses_to_be_without_any_of_its_fields(kind: type[Any], op: Any) -> None:
    """Each is missed by name."""
    for name in COMPLETE[kind][op]:
        others = {other: value for other, value in COMPLETE[kind][op].items() if other != name}
        with pytest.raises(ValueError, match=rf"{kind.__name__}\(op='{op}'\) needs {name}"):
            kind(op=op, **others)


@pytest.mark.parametrize(("kind", "op"), OPS)
def test_an_op_refuses_every_field_it_would_ignore(kind: type[Any], op: Any) -> None:
    """A field without effect is a mistake that nobody would see."""
    own = COMPLETE[kind][op] | OPTIONAL[kind].get(op, {})
    foreign = [name for name in kind.__struct_fields__ if name in FIELDS[kind] and name not in own]
    assert foreign
    for name in foreign:
        with pytest.raises(ValueError, match=rf"does not use {name}: leave it out"):
            kind(op=op, **COMPLETE[kind][op], **{name: FIELDS[kind][name]})


def test_all_that_is_wrong_with_an_op_is_said_at_once() -> None:
    """What is missing and what is too much."""
    with pytest.raises(ValueError, match=r"needs table; PostgresPayload\(op='insert'\) does not use conflict, where"):
        PostgresPayload(data={}, where={"id": 1}, conflict=["id"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PostgresPayload(op="merge", table="t", data={}), "'merge'; choose one of insert, update, upsert"),
        (lambda: RedisPayload(op="hset", key="k", fields=["a"]), "needs fields as a mapping, not list"),
        (lambda: RedisPayload(op="zadd", key="k", members=["a"]), "needs members as a mapping, not list"),
        (lambda: RedisPayload(op="hdel", key="k", fields={"a": 1}), "needs fields as a list, not dict"),
        (lambda: RedisPayload(op="sadd", key="k", members="abc"), "needs members as a list, not str"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: RedisPayload(op="push", key="k", data=1, side="top"), "side must be 'left' or 'right', not 'top'"),  # type: ignore[arg-type]  # wrong on purpose
        (
            lambda: PostgresPayload(op="upsert", table="t", data={}, conflict=["id"], update_columns=["id", "a"]),
            "id in update_columns is a conflict column",
        ),
        (lambda: PostgresPayload(op="update", table="t", data={"a": 1}, where={}), "needs where"),
        (lambda: MongoPayload(op="delete_many", collection="c", filter={}), "needs filter"),
        (lambda: RedisPayload(op="hset", key="k", fields={}), "needs fields"),
    ],
)
def test_a_wrong_payload_says_what_is_wrong(make: Any, message: str) -> None:
    """In words a user can act on; an empty predicate would match everything."""
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_that_are_zero_and_data_that_is_empty_are_given() -> None:
    """Only None, and empty texts and collections that name something, are missing."""
    assert RedisPayload(op="incrby", key="k", amount=0).amount == 0
    assert RedisPayload(key="k", data="").data == ""
    assert RedisPayload(key="k", data=[]).data == []


@pytest.mark.parametrize("data", [Row(), Struct(), Data(), {"id": 1}])
def test_data_is_a_model_a_struct_a_dataclass_or_a_mapping(data: Any) -> None:
    """Each has the same JSON and the same columns."""
    assert json.loads(encode(data)) == {"id": 1}
    assert to_row(data) == {"id": 1}


def test_models_inside_plain_values_become_json_too() -> None:
    """A list of models, for one."""
    assert encode({"rows": [Row(), Struct(), Data()]}) == b'{"rows":[{"id":1},{"id":1},{"id":1}]}'
    with pytest.raises(TypeError, match="a value of type object has no JSON form"):
        encode({"rows": [object()]})


def test_a_payload_of_ones_own_has_to_name_its_sink() -> None:
    """There is no kind by which it could be found."""
    with pytest.raises(TypeError, match="Missing required argument 'sink'"):
        CustomPayload(data=1)  # type: ignore[call-arg]  # wrong on purpose


def test_a_result_knows_its_payloads_and_the_kinds_of_sink_they_need() -> None:
    """By the kinds' names in the configuration."""
    empty = CollectResult()
    assert (empty.has_outputs, empty.used_sink_types, empty.payloads()) == (False, set(), [])
    payloads: list[Payload] = [
        KafkaPayload(data=1),
        PostgresPayload(table="t", data=Row()),
        MongoPayload(collection="c", data=Row()),
        HttpPayload(data=Row()),
        RedisPayload(key="k", data=Row()),
        FilePayload(path="f", data=Row()),
        SqlitePayload(table="t", data=Row()),
        CustomPayload(sink="s", data=Row()),
    ]
    fields = ["kafka", "postgres", "mongo", "http", "redis", "files", "sqlite", "custom"]
    full = CollectResult(**{name: [payload] for name, payload in zip(fields, payloads, strict=True)})  # type: ignore[arg-type]  # one of each kind
    assert full.has_outputs
    assert full.used_sink_types == {"filesystem" if name == "files" else name for name in fields}
    assert full.payloads() == payloads
    assert payloads_of(full) == payloads_of(payloads) == payloads


def test_a_result_with_something_else_than_lists_says_where() -> None:
    """Such as a payload itself, as hooks may return it without a result around it."""
    wrong = CollectResult(kafka=KafkaPayload(data=1), redis=5)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="a CollectResult in which kafka is KafkaPayload and not a list, redis is int"):
        payloads_of(wrong)


@pytest.mark.parametrize("field", CollectResult.__struct_fields__)
def test_each_kind_of_payload_alone_is_an_output(field: str) -> None:
    """No list is forgotten, and no two results share one."""
    result = CollectResult(**{field: [KafkaPayload(data=1)]})  # type: ignore[arg-type]  # one of any kind
    assert result.has_outputs
    assert len(result.payloads()) == 1
    getattr(CollectResult(), field).append(1)
    assert not CollectResult().has_outputs
