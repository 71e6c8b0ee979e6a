"""SQLite rows and statements of payloads. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import AS_TEXT, encode, to_row
from drakkar_flow.sinks.sqlite.payload import SqlitePayload

__all__ = ["Row", "create_statement", "insert_statement", "make_row"]

Cell = None | bool | int | float | str | bytes

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGERS = range(-(2**63), 2**63)
_AFFINITIES = {bool: "INTEGER", int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}


class Row(NamedTuple):
    """One row: its table, and its values in the order of its columns."""

    table: str
    columns: tuple[str, ...]
    values: tuple[Cell, ...]


def make_row(payload: SqlitePayload) -> Row:
    """Turn a payload into a row; lists, mappings and models inside it become JSON text.

    >>> make_row(SqlitePayload(table="hits", data={"id": 1, "tags": ["a"]}))
    Row(table='hits', columns=('id', 'tags'), values=(1, '["a"]'))

    Raises:
        SinkRejected: the payload has no fields, a name is not an identifier, or SQLite would change a value.
    """
    try:
        fields = to_row(payload.data)
        values = tuple(_cell(name, value) for name, value in fields.items())
    except SinkRejected:
        raise
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"the payload is not a row: {type(error).__name__}: {error}") from error
    if not fields:
        raise SinkRejected("the payload has no fields, so there is no row to insert")
    for name in (payload.table, *fields):
        if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
            raise SinkRejected(f"{name!r} is not a name for a table or a column: use a-z, A-Z, 0-9 and '_'")
    return Row(payload.table, tuple(fields), values)


def create_statement(row: Row) -> str:
    """Return the statement that creates the table of a row, with types after the row's values.

    >>> create_statement(Row("hits", ("id", "note", "score"), (1, None, 0.5)))
    'CREATE TABLE IF NOT EXISTS "hits" ("id" INTEGER, "note", "score" REAL)'
    """
    columns = (
        f'"{name}" {_AFFINITIES.get(type(value), "")}'.rstrip()
        for name, value in zip(row.columns, row.values, strict=True)
    )
    return f'CREATE TABLE IF NOT EXISTS "{row.table}" ({", ".join(columns)})'


def insert_statement(table: str, columns: Sequence[str]) -> str:
    """Return the statement that inserts one row.

    >>> insert_statement("hits", ["id", "note"])
    'INSERT INTO "hits" ("id", "note") VALUES (?, ?)'
    """
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    return f'INSERT INTO "{table}" ({names}) VALUES ({marks})'  # noqa: S608  (names were checked by make_row)


def _cell(name: str, value: Any) -> Cell:
    if type(value) is float and value != value:
        raise SinkRejected(f"column {name}: NaN can't be stored in SQLite, which would store NULL; send None or text")
    if type(value) is int and value not in _INTEGERS:
        raise SinkRejected(f"column {name}: the integer is not in {_INTEGERS.start} to {_INTEGERS.stop - 1}; send text")
    if value is None or type(value) in _AFFINITIES:
        return value  # type: ignore[no-any-return]  # just checked
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    plain = msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_nested)
    if plain is None or isinstance(plain, (bool, int, float, str, bytes)):
        return plain
    return encode(plain).decode()


def _nested(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, AS_TEXT):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} can't be stored in a row")
