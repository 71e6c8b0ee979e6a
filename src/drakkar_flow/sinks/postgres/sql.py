"""PostgreSQL statements of payloads, with the values of their parameters. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import to_row
from drakkar_flow.sinks.postgres.payload import PostgresOp, PostgresPayload

__all__ = ["Write", "named_statement", "with_expressions", "write_of"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_PARAMETER = re.compile(
    r"""'(?:[^']|'')*'|"[^"]*"|--[^\n]*|/\*.*?\*/|\$([A-Za-z_]\w*|)\$.*?\$\1\$"""
    r"|\$(?P<number>[0-9]+)|::|(?<!:):(?P<name>[A-Za-z_]\w*)",
    re.DOTALL,
)


class Write(NamedTuple):
    """One statement with `$1`, `$2`, ..., their values, and the names of their columns or params."""

    sql: str
    values: tuple[Any, ...]
    names: tuple[str, ...]


def write_of(payload: PostgresPayload, statements: Mapping[str, str]) -> Write:
    """Turn a payload into SQL; `statements` are the sink's, by name.

    >>> write_of(PostgresPayload(table="hits", data={"id": 1, "note": None}), {})
    Write(sql='INSERT INTO "hits" ("id", "note") VALUES ($1, $2)', values=(1, None), names=('id', 'note'))
    >>> write_of(PostgresPayload(op="upsert", table="a.hits", data={"id": 1, "n": 2}, conflict=["id"]), {}).sql
    'INSERT INTO "a"."hits" ("id", "n") VALUES ($1, $2) ON CONFLICT ("id") DO UPDATE SET "n" = EXCLUDED."n"'

    Raises:
        SinkRejected: the payload has no fields, a name is no identifier, or the statement is unknown
            or lacks a parameter.
    """
    if payload.op is PostgresOp.STATEMENT:
        return _statement(payload, statements)
    if payload.op is PostgresOp.UPDATE:
        return _update(payload)
    return _insert(payload)


def named_statement(sql: str) -> tuple[str, list[str]]:
    """Replace `:name` by `$n`, outside of quotes and comments; returns the names in the order of their numbers.

    >>> named_statement("UPDATE hits SET n = n + :by WHERE id = :id AND at::date = :day -- :no")
    ('UPDATE hits SET n = n + $1 WHERE id = $2 AND at::date = $3 -- :no', ['by', 'id', 'day'])
    """
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, sql), names


def with_expressions(sql: str, expressions: Sequence[str | None]) -> str:
    """Replace each `$n` that has an expression by it; `{}` in the expression stands for the parameter.

    >>> with_expressions('INSERT INTO "$1" ("a", "b") VALUES ($1, $2)', [None, "{}::text::interval"])
    'INSERT INTO "$1" ("a", "b") VALUES ($1, ($2::text::interval))'
    """

    def replaced(match: re.Match[str]) -> str:
        expression = expressions[int(match["number"]) - 1] if match["number"] else None
        return match[0] if expression is None else f"({expression.replace('{}', match[0])})"

    return _PARAMETER.sub(replaced, sql)


def _insert(payload: PostgresPayload) -> Write:
    row = _fields(payload.data, "data")
    names = ", ".join(map(_quoted, row))
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    sql = f"INSERT INTO {_table(payload.table)} ({names}) VALUES ({marks})"  # noqa: S608  (names are checked)
    if payload.op is PostgresOp.UPSERT:
        sql += _on_conflict(payload, row)
    return Write(sql, tuple(row.values()), tuple(row))


def _on_conflict(payload: PostgresPayload, row: Mapping[str, Any]) -> str:
    target = ", ".join(map(_quoted, payload.conflict))
    columns = payload.update_columns
    if columns is None:
        columns = [name for name in row if name not in payload.conflict]
    if missing := (set(payload.conflict) | set(columns)) - set(row):
        raise SinkRejected(
            f"conflict and update_columns name fields that are missing in data: {', '.join(sorted(missing))}"
        )
    if not columns:
        return f" ON CONFLICT ({target}) DO NOTHING"
    changes = ", ".join(f"{_quoted(name)} = EXCLUDED.{_quoted(name)}" for name in columns)
    return f" ON CONFLICT ({target}) DO UPDATE SET {changes}"


def _update(payload: PostgresPayload) -> Write:
    row, where = _fields(payload.data, "data"), _fields(payload.where, "where")
    changes = ", ".join(f"{_quoted(name)} = ${number}" for number, name in enumerate(row, 1))
    conditions, values, columns = [], list(row.values()), list(row)
    for name, value in where.items():
        if value is None:
            conditions.append(f"{_quoted(name)} IS NULL")
        else:
            values.append(value)
            columns.append(name)
            conditions.append(f"{_quoted(name)} = ${len(values)}")
    sql = f"UPDATE {_table(payload.table)} SET {changes} WHERE {' AND '.join(conditions)}"  # noqa: S608  (as above)
    return Write(sql, tuple(values), tuple(columns))


def _statement(payload: PostgresPayload, statements: Mapping[str, str]) -> Write:
    sql = statements.get(payload.statement)
    if sql is None:
        known = ", ".join(sorted(statements)) or "none"
        raise SinkRejected(f"there is no statement {payload.statement!r} in the sink's statements; there are: {known}")
    numbered, names = named_statement(sql)
    given = _fields(payload.params, "params") if payload.params is not None else {}
    if missing := [name for name in names if name not in given]:
        raise SinkRejected(f"statement {payload.statement!r} needs the params {', '.join(missing)}")
    return Write(numbered, tuple(given[name] for name in names), tuple(names))


def _fields(data: Any, what: str) -> dict[str, Any]:
    try:
        fields = to_row(data)
    except Exception as error:  # a model's own serializers may raise anything
        raise SinkRejected(f"{what} is not a row: {type(error).__name__}: {error}") from error
    if not fields:
        raise SinkRejected(f"{what} has no fields")
    return fields


def _table(name: str) -> str:
    return ".".join(map(_quoted, name.split(".", 1)))


def _quoted(name: str) -> str:
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
        raise SinkRejected(f"{name!r} is not a name for a schema, table or column: use a-z, A-Z, 0-9, '_' and '$'")
    return f'"{name}"'
