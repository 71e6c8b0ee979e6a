"""Payloads to MongoDB operations: documents, filters and updates as plain Python. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel

from drakkar_flow.config.remote import MongoStatement
from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import to_row
from drakkar_flow.model.mongo import MongoOp, MongoPayload

__all__ = ["Operation", "operation_of"]

_CODE = frozenset({"$where", "$function", "$accumulator"})  # these run JavaScript on the server


class Operation(NamedTuple):
    """One write: the collection, what is done, which documents, and the document or the update."""

    collection: str
    op: MongoOp
    filter: dict[str, Any]
    change: Any


def operation_of(payload: MongoPayload, statements: Mapping[str, MongoStatement]) -> Operation:
    """Turn a payload into an operation; `statements` are the sink's, by name.

    >>> operation_of(MongoPayload(op="upsert", collection="jobs", data={"n": 1}, filter={"_id": 7}), {})
    Operation(collection='jobs', op=<MongoOp.UPSERT: 'upsert'>, filter={'_id': 7}, change={'$set': {'n': 1}})

    Raises:
        SinkRejected: the payload is no document, its filter is empty or runs code on the server, or the
            statement is unknown or lacks a parameter.
    """
    if payload.op is MongoOp.STATEMENT:
        return _statement(payload, statements)
    op = MongoOp(payload.op)
    if op is MongoOp.INSERT:
        return Operation(payload.collection, op, {}, _document(payload.data, "data"))
    change = {"$set": _document(payload.data, "data")} if payload.data is not None else None
    return Operation(payload.collection, op, _safe(_document(payload.filter, "filter")), change)


def _statement(payload: MongoPayload, statements: Mapping[str, MongoStatement]) -> Operation:
    found = statements.get(payload.statement)
    if found is None:
        known = ", ".join(sorted(statements)) or "none"
        raise SinkRejected(f"there is no statement {payload.statement!r} in the sink's statements; there are: {known}")
    params = _document(payload.params, "params") if payload.params is not None else {}
    where = _filled(found.filter, params, payload.statement)
    return Operation(
        found.collection, MongoOp(found.op), _safe(where), _filled(found.update, params, payload.statement)
    )


def _filled(template: Any, params: Mapping[str, Any], statement: str) -> Any:
    """Replace the texts `:name` of a statement by its parameters."""
    if isinstance(template, str) and template.startswith(":"):
        if template[1:] not in params:
            raise SinkRejected(f"statement {statement!r} needs the param {template[1:]}")
        return params[template[1:]]
    if isinstance(template, Mapping):
        return {name: _filled(value, params, statement) for name, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, params, statement) for value in template]
    return template


def _document(data: Any, what: str) -> dict[str, Any]:
    try:
        return {name: _plain(value) for name, value in to_row(data).items()}
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"{what} is no document: {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseModel | msgspec.Struct):
        return {name: _plain(inner) for name, inner in to_row(value).items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return value


def _safe(where: dict[str, Any]) -> dict[str, Any]:
    if not where:
        raise SinkRejected("an empty filter matches every document: name what the documents must have")
    if code := _CODE & set(_names(where)):
        raise SinkRejected(f"a filter must not run code on the server: {', '.join(sorted(code))}")
    return where


def _names(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [name for key, inner in value.items() for name in (key, *_names(inner))]
    if isinstance(value, list):
        return [name for inner in value for name in _names(inner)]
    return []
