"""Proofs of a target: what a connection alone does not show, asked without writing anything.

Each function opens and closes its own connection, after the sink itself has connected.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from drakkar_flow.config.sections.network_sinks import (
    HttpSinkConfig,
    MongoSinkConfig,
    PostgresSinkConfig,
    RedisSinkConfig,
)
from drakkar_flow.errors import Problem
from drakkar_flow.sinks.postgres_sql import named_statement

__all__ = ["PROOFS", "Proof"]

Proof = Callable[[str, Any], Awaitable[list[Problem]]]
"""(where, the sink's settings) -> what keeps the sink from writing."""

_ANSWER_S = 10.0
_UNAUTHORIZED = 13
_EXPLAINED = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES"})
_REFUSED = frozenset({401, 403})


async def _postgres(where: str, settings: PostgresSinkConfig) -> list[Problem]:
    """The server takes writes, and each named statement could run: its tables, columns and rights."""
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
                remedy = "create what is missing, grant the right, or fix the statement"
                problems.append(Problem(f"{where}.statements.{name}", what, remedy))
    finally:
        await connection.close()
    return problems


async def _explain(connection: Any, name: str, sql: str, parameters: int) -> None:
    """Ask for the rights that a statement needs; it is planned and not run."""
    await connection.execute(f"PREPARE {name} AS {sql}")
    nulls = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    await connection.execute(f"EXPLAIN EXECUTE {name}{nulls}")


async def _redis(where: str, settings: RedisSinkConfig) -> list[Problem]:
    """`SET` below the prefix is allowed: tried with XX on a key that does not exist, so nothing is stored."""
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    url = settings.url.get_secret_value()
    async with Redis.from_url(url, socket_connect_timeout=_ANSWER_S, socket_timeout=_ANSWER_S) as client:
        try:
            await client.set(f"{settings.key_prefix}drakkar-flow-check-{uuid.uuid4()}", "", xx=True)
        except ResponseError as error:
            remedy = "connect to the primary, or allow this user to write"
            return [Problem(f"{where}.url", f"Redis refuses to write: {type(error).__name__}: {error}", remedy)]
    return []


async def _mongo(where: str, settings: MongoSinkConfig) -> list[Problem]:
    """Updates are allowed: of a document that does not exist, so nothing is stored."""
    from pymongo import AsyncMongoClient
    from pymongo.errors import OperationFailure

    client: Any = AsyncMongoClient(settings.uri.get_secret_value(), serverSelectionTimeoutMS=int(_ANSWER_S * 1000))
    named = {statement.collection for statement in settings.statements.values()}
    problems = []
    try:
        for collection in sorted(named) or ["drakkar_flow_check"]:
            try:
                nobody = {"_id": f"drakkar-flow-check-{uuid.uuid4()}"}
                await client[settings.database][collection].update_one(nobody, {"$set": {"checked": True}})
            except OperationFailure as error:
                if error.code != _UNAUTHORIZED or named or "authentication" in str(error):
                    what = f"MongoDB refuses to write to {settings.database}.{collection}: {error}"
                    problems.append(Problem(f"{where}.uri", what, "grant this user readWrite on the database"))
    finally:
        await client.close()
    return problems


async def _http(where: str, settings: HttpSinkConfig) -> list[Problem]:
    """The service speaks HTTP and does not refuse us: asked with OPTIONS, which changes nothing."""
    import httpx

    url = settings.url.get_secret_value()
    try:
        async with httpx.AsyncClient(timeout=min(_ANSWER_S, settings.timeout_seconds)) as client:
            status = (await client.options(url, headers=settings.headers)).status_code
    except httpx.HTTPError as error:
        what = f"the service does not speak HTTP as expected: {type(error).__name__}: {error}"
        return [Problem(f"{where}.url", what, "check scheme, port and certificate")]
    if status in _REFUSED:
        return [Problem(f"{where}.headers", f"the service refuses this client: {status}", "check the credentials")]
    return []


PROOFS: Mapping[str, Proof] = MappingProxyType({"postgres": _postgres, "redis": _redis, "mongo": _mongo, "http": _http})
"""The proofs by kind of sink; Kafka's is `engine.rights`, files and SQLite prove themselves when they connect."""
