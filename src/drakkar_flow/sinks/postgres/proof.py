"""Proof of the target: check, without a write, what a connection alone does not show.

The proof opens and closes a connection after the sink itself has connected.
"""

from __future__ import annotations

from typing import Any

from drakkar_flow.errors import Problem
from drakkar_flow.sinks.postgres.settings import PostgresSinkConfig
from drakkar_flow.sinks.postgres.sql import named_statement

__all__ = ["prove"]

_ANSWER_S = 10.0
_EXPLAINED = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES"})


async def prove(where: str, settings: PostgresSinkConfig) -> list[Problem]:
    """Check that the server takes writes, and that each named statement could run: its tables, columns and rights."""
    import asyncpg

    connection = await asyncpg.connect(settings.dsn.get_secret_value(), timeout=_ANSWER_S, command_timeout=_ANSWER_S)
    problems = []
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"):
            problems.append(Problem(f"{where}.dsn", "the server is read-only", "connect to the primary"))
        for number, (name, text) in enumerate(settings.statements.items()):
            sql, parameters = named_statement(text)
            try:
                await connection.prepare(sql)
                if sql.lstrip("( \n").partition(" ")[0].upper() in _EXPLAINED:
                    await _explain(connection, f"drakkar_flow_check_{number}", sql, len(parameters))
            except asyncpg.PostgresError as error:
                what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                remedy = "create the missing object, grant the right, or fix the statement"
                problems.append(Problem(f"{where}.statements.{name}", what, remedy))
    finally:
        await connection.close()
    return problems


async def _explain(connection: Any, name: str, sql: str, parameters: int) -> None:
    """Check the rights that a statement needs; it is planned and not run."""
    await connection.execute(f"PREPARE {name} AS {sql}")
    nulls = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    await connection.execute(f"EXPLAIN EXECUTE {name}{nulls}")
