"""What goes to MongoDB: one document, update or deletion, or one named statement per payload."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from drakkar_flow.model.base import Payload
from drakkar_flow.model.operations import Fields, check_fields, operation

__all__ = ["MongoOp", "MongoPayload"]


class MongoOp(StrEnum):
    """What a payload does to its collection."""

    INSERT = "insert"
    UPDATE_ONE = "update_one"
    UPDATE_MANY = "update_many"
    UPSERT = "upsert"
    DELETE_ONE = "delete_one"
    DELETE_MANY = "delete_many"
    STATEMENT = "statement"


_CHANGE = Fields.of("collection data filter")
_DELETE = Fields.of("collection filter")
_FIELDS = {
    MongoOp.INSERT: Fields.of("collection data"),
    MongoOp.UPDATE_ONE: _CHANGE,
    MongoOp.UPDATE_MANY: _CHANGE,
    MongoOp.UPSERT: _CHANGE,
    MongoOp.DELETE_ONE: _DELETE,
    MongoOp.DELETE_MANY: _DELETE,
    MongoOp.STATEMENT: Fields.of("statement", may="params"),
}


class MongoPayload(Payload, kw_only=True, gc=False):
    """One operation on `collection` of a MongoDB sink.

    `data`, `filter` and `params` are pydantic models, msgspec structs, dataclasses or mappings. `data`
    is the document of an insert, and what the others set. `filter` names fields and the values they
    must equal; it is never optional, because an empty one matches every document.

    | op | needs | may have |
    | --- | --- | --- |
    | insert (default) | collection, data | |
    | update_one, update_many, upsert | collection, data, filter | |
    | delete_one, delete_many | collection, filter | |
    | statement | statement, of `sinks.mongo.<name>.statements` | params |

    >>> MongoPayload(op="delete_many", collection="staging", filter={})
    Traceback (most recent call last):
    ...
    ValueError: MongoPayload(op='delete_many') needs filter

    Raises:
        ValueError: a field that the op needs is missing, or one is given that it does not use.
    """

    op: MongoOp | str = MongoOp.INSERT
    collection: str = ""
    data: Any = None
    filter: Any = None
    statement: str = ""
    params: Any = None

    def __post_init__(self) -> None:
        op = self.op = operation(MongoOp, self.op)
        check_fields(self, op, _FIELDS)
