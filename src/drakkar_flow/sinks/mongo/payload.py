"""MongoDB payload: one document, update, deletion or named statement."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from drakkar_flow.model.base import Payload
from drakkar_flow.model.operations import Fields, check_fields, operation

__all__ = ["MongoExpr", "MongoOp", "MongoPayload"]


class MongoExpr(dict[str, Any]):
    """Operator expression of MongoDB, marked as written by the flow's author.

    Values in a payload are literal, because they may come from a message: a mapping with operators
    is refused unless it is a MongoExpr. The mark covers the names of this one mapping; the values
    below are literal again.

    >>> recent = {"state": "open", "at": MongoExpr({"$lt": 1_760_000_000})}
    >>> either = MongoExpr({"$or": [{"state": "failed"}, {"tries": MongoExpr({"$gte": 5})}]})

    As the `data` of an update it is the update document itself:

    >>> count = MongoExpr({"$inc": {"hits": 1}, "$set": {"text": "any"}})
    """

    def __init__(self, operators: Mapping[str, Any]) -> None:
        super().__init__(operators)


class MongoOp(StrEnum):
    """Operation of a payload on its collection."""

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
    is the document of an insert, and the fields to set of the other operations. `filter` names fields and
    the values they must equal; it is never optional, because an empty one matches every document. Values are literal:
    operators belong in a `MongoExpr` or in a statement. The sink refuses any other, and names that
    begin with `$` or contain `.` in the `data` of an update, unless `sinks.mongo.<name>.operators` is `any`.

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
        ValueError: a required field is missing, or a given field is not used by the op.
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
