"""MongoDB operations of payloads: documents, filters and updates as plain Python. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import AS_TEXT, to_row
from drakkar_flow.sinks.mongo.payload import MongoExpr, MongoOp, MongoPayload
from drakkar_flow.sinks.mongo.settings import MongoStatement

__all__ = ["Operation", "operation_of"]

_CODE = frozenset({"$where", "$function", "$accumulator"})  # these run JavaScript on the server
_AS_IS = frozenset({str, int, float, bool, type(None), datetime, bytes})


class Operation(NamedTuple):
    """One write: the collection, the operation, the filter, and the document or the update."""

    collection: str
    op: MongoOp
    filter: dict[str, Any]
    change: Any


def operation_of(
    payload: MongoPayload, statements: Mapping[str, MongoStatement], *, any_operators: bool = False
) -> Operation:
    """Turn a payload into an operation; `statements` are the sink's, by name.

    Values are literal: operators are accepted in a `MongoExpr` and in statements only. With `any_operators` every
    mapping of a filter may hold operators, as in py-drakkar.

    >>> operation_of(MongoPayload(op="upsert", collection="jobs", data={"n": 1}, filter={"_id": 7}), {})
    Operation(collection='jobs', op=<MongoOp.UPSERT: 'upsert'>, filter={'_id': 7}, change={'$set': {'n': 1}})

    Raises:
        SinkRejected: the payload is no document, its filter is empty, runs code on the server or holds an
            operator that no author marked, or the statement is unknown or lacks a parameter.
    """
    if payload.op is MongoOp.STATEMENT:
        return _statement(payload, statements)
    op = MongoOp(payload.op)
    collection = _collection(payload.collection)
    if op is MongoOp.INSERT:
        return Operation(collection, op, {}, _document(payload.data, "data"))
    change = _update(payload.data, any_operators=any_operators) if payload.data is not None else None
    return Operation(collection, op, _filter(payload.filter, any_operators=any_operators), change)


def _filter(given: Any, *, any_operators: bool) -> dict[str, Any]:
    document = _without_code(_document(given, "filter"))
    if not any_operators:
        _require_literal(given if isinstance(given, Mapping) else to_row(given), "filter")
    return document


def _update(data: Any, *, any_operators: bool) -> dict[str, Any]:
    """Return the update document: the operators of a MongoExpr, else `$set` of the fields."""
    document = _document(data, "data")
    if isinstance(data, MongoExpr):
        for name, value in data.items():
            if not name.startswith("$"):
                raise SinkRejected(f"data is a MongoExpr, and {name!r} is not an update operator like $set")
            _require_literal(value, "data")
        return document
    if not any_operators and (paths := [name for name in document if name.startswith("$") or "." in name]):
        raise SinkRejected(
            f"data has the name {paths[0]!r}, which an update reads as an operator or a path; "
            'if you wrote it, pass data=MongoExpr({"$set": {...}})'
        )
    return {"$set": document}


def _require_literal(value: Any, what: str) -> None:
    """Refuse operators outside of a MongoExpr, at any depth."""
    if isinstance(value, Mapping):
        marked = isinstance(value, MongoExpr)
        for name, inner in value.items():
            if marked and name == "$expr":
                raise SinkRejected("$expr reads text as the names of fields; use a statement, whose params are literal")
            if not marked and str(name).startswith("$"):
                raise SinkRejected(
                    f"{what} has the operator {name!r} in a value, and values are compared literally; "
                    "if you wrote it, pass MongoExpr({...})"
                )
            _require_literal(inner, what)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            _require_literal(inner, what)
    elif type(value) not in _AS_IS and _has_fields(value):
        _require_literal(to_row(value), what)


def _statement(payload: MongoPayload, statements: Mapping[str, MongoStatement]) -> Operation:
    found = statements.get(payload.statement)
    if found is None:
        known = ", ".join(sorted(statements)) or "none"
        raise SinkRejected(f"there is no statement {payload.statement!r} in the sink's statements; there are: {known}")
    params = _document(payload.params, "params") if payload.params is not None else {}
    _require_literal(params, "params")
    template = _Template(payload.statement, params)
    update = template.fill(found.update, expression=isinstance(found.update, list))
    return Operation(found.collection, MongoOp(found.op), _without_code(template.fill(found.filter)), update)


class _Template(NamedTuple):
    """A statement's filter or update, and the params for its texts `:name`."""

    statement: str
    params: Mapping[str, Any]

    def fill(self, template: Any, *, expression: bool = False) -> Any:
        """Replace each `:name`; in an aggregation expression, where `$name` is a field, by a `$literal`."""
        if isinstance(template, str) and template.startswith(":"):
            name = template[1:]
            if name not in self.params:
                raise SinkRejected(f"statement {self.statement!r} needs the param {name}")
            return {"$literal": self.params[name]} if expression else self.params[name]
        if isinstance(template, Mapping):
            return {
                name: self.fill(value, expression=expression or name == "$expr") for name, value in template.items()
            }
        if isinstance(template, list):
            return [self.fill(value, expression=expression) for value in template]
        return template


def _collection(name: Any) -> str:
    if not isinstance(name, str) or not name or "$" in name or "\0" in name or name.startswith(("system.", ".")):
        raise SinkRejected(f"{name!r} is no name of a collection: '$' and the beginning 'system.' are reserved")
    if name.endswith(".") or ".." in name:
        raise SinkRejected(f"{name!r} is no name of a collection: a part between dots is empty")
    return name


def _document(data: Any, what: str) -> dict[str, Any]:
    try:
        return {name: _plain(value) for name, value in to_row(data).items()}
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"{what} is not a document: {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    """Return the BSON form of a value, without loss; the client refuses values without a BSON type."""
    if type(value) in _AS_IS:
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if isinstance(value, Decimal):
        from bson.decimal128 import Decimal128

        return Decimal128(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, AS_TEXT):
        return str(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if _has_fields(value):
        return {name: _plain(inner) for name, inner in to_row(value).items()}
    return value


def _has_fields(value: Any) -> bool:
    return isinstance(value, (BaseModel, msgspec.Struct)) or (is_dataclass(value) and not isinstance(value, type))


def _without_code(where: dict[str, Any]) -> dict[str, Any]:
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
