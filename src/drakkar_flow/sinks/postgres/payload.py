"""PostgreSQL payload: one row or one named statement."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from drakkar_flow.model.base import Payload
from drakkar_flow.model.operations import Fields, check_fields, operation

__all__ = ["PostgresOp", "PostgresPayload"]


class PostgresOp(StrEnum):
    """Operation of a payload on its table."""

    INSERT = "insert"
    UPDATE = "update"
    UPSERT = "upsert"
    STATEMENT = "statement"


_FIELDS = {
    PostgresOp.INSERT: Fields.of("table data"),
    PostgresOp.UPDATE: Fields.of("table data where"),
    PostgresOp.UPSERT: Fields.of("table data conflict", may="update_columns"),
    PostgresOp.STATEMENT: Fields.of("statement", may="params"),
}


class PostgresPayload(Payload, kw_only=True, gc=False):
    """One row for `table` of a PostgreSQL sink; the fields of `data` are its columns.

    `data`, `where` and `params` are pydantic models, msgspec structs, dataclasses or mappings.

    | op | needs | may have | does |
    | --- | --- | --- | --- |
    | insert (default) | table, data | | inserts a row |
    | update | table, data, where | | sets `data` in every row whose columns equal `where`; None there means IS NULL |
    | upsert | table, data, conflict | update_columns | inserts, or where the columns `conflict` are taken \
overwrites `update_columns`, by default all others |
    | statement | statement | params | runs `sinks.postgres.<name>.statements.<statement>` with `params` |

    >>> PostgresPayload(op="update", table="jobs", data={"state": "done"})
    Traceback (most recent call last):
    ...
    ValueError: PostgresPayload(op='update') needs where

    Raises:
        ValueError: a required field is missing, or the op does not use a given field.
    """

    op: PostgresOp | str = PostgresOp.INSERT
    table: str = ""
    data: Any = None
    where: Any = None
    conflict: list[str] = []
    update_columns: list[str] | None = None
    statement: str = ""
    params: Any = None

    def __post_init__(self) -> None:
        op = self.op = operation(PostgresOp, self.op)
        check_fields(self, op, _FIELDS)
        if op is PostgresOp.UPSERT and (both := set(self.update_columns or ()) & set(self.conflict)):
            raise ValueError(
                f"{', '.join(sorted(both))} in update_columns is a conflict column: remove it from update_columns"
            )
