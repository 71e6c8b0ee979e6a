"""PostgreSQL sink: rows and named statements, a batch in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from drakkar_flow.config.urls import encoded, url_of_pairs
from drakkar_flow.errors import BatchFailed, SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.clients import client_words, refused_url, require, tls_remedy, unusable
from drakkar_flow.sinks.postgres.errors import (
    detail_of,
    failure_of_error,
    is_about_the_server,
    is_for_good,
    reason_of,
)
from drakkar_flow.sinks.postgres.payload import PostgresOp, PostgresPayload
from drakkar_flow.sinks.postgres.proof import prove
from drakkar_flow.sinks.postgres.settings import PostgresSinkConfig
from drakkar_flow.sinks.postgres.sql import Write, with_expressions, write_of
from drakkar_flow.sinks.postgres.values import Parameter, Parsed, fit_row, fitter_of

if TYPE_CHECKING:
    import asyncpg

__all__ = ["SPEC", "PostgresSink"]

_CONNECT_S = 10.0
_COMMAND_S = 30.0
_ATTRIBUTES = """SELECT attname FROM pg_attribute JOIN pg_type ON attrelid = typrelid
    WHERE pg_type.oid = $1 AND attnum > 0 AND NOT attisdropped"""


class PostgresSink:
    """Writes each payload with its operation; a batch is one transaction, in order.

    - Runs of payloads with the same statement are sent as one prepared statement with many rows.
    - When a payload is refused, the batch is written again with a savepoint around each payload, and only refused
      payloads fail.
    - A lost connection or a server that is down fails the batch. None of it is written, unless the answer to the last
      COMMIT was lost.
    - When a server shuts down or became read-only, all connections are replaced.

    `pool` is the argument of a handler's `on_ready`, if this is the first PostgreSQL sink.

    Args:
        name: the instance's name under `sinks.postgres`.
        settings: the address of the database, its pool and its statements.
    """

    def __init__(self, name: str, settings: PostgresSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self.pool: asyncpg.Pool | None = None

    async def connect(self) -> None:
        """Open the pool, which proves that the database can be reached.

        Raises:
            StartupError: the server can't be reached (exit code 1); it refuses the login or the database, the dsn is
                wrong, or the client is not installed (2).
        """
        where = f"sinks.postgres.{self._name}"
        client = require("asyncpg", where, extra="postgres")
        if self.pool is not None:
            return
        dsn = self._settings.dsn.get_secret_value()
        try:
            self.pool = await client.create_pool(
                encoded(url_of_pairs(dsn)),
                min_size=self._settings.pool_min,
                max_size=self._settings.pool_max,
                timeout=_CONNECT_S,
                command_timeout=_COMMAND_S,
            )
        except (OSError, TimeoutError, client.PostgresError) as error:
            what = f"PostgreSQL can't be used: {client_words(error, dsn)}"
            if is_for_good(error):
                remedy = "check database, user, password and rights, and pg_hba.conf of the server"
                raise unusable(f"{where}.dsn", what, remedy, for_good=True) from None
            tls = tls_remedy(error)
            remedy = tls or "check host and port of the dsn, and that the server runs"
            raise unusable(f"{where}.dsn", what, remedy, for_good=bool(tls)) from None
        except (ValueError, client.InterfaceError) as error:
            raise refused_url(f"{where}.dsn", error) from None

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Write the batch and commit it.

        Raises:
            BatchFailed: some payloads failed: SinkRejected and SinkMisconfigured permanently, SinkError at present.
            PostgresError: COMMIT was refused because of one of several payloads; none is written.
            SinkNotConnected: before `connect`, or after `close`.
            SinkError: no payload is known to be written.
        """
        if self.pool is None:
            raise SinkNotConnected(f"sinks.postgres.{self._name} is not connected; connect() comes first")
        import asyncpg

        failures: dict[int, Exception] = {}
        writes = self._writes(batch, failures)
        if writes:
            try:
                async with self.pool.acquire(timeout=_CONNECT_S) as connection:
                    await _Transaction(connection, writes, failures).run()
            except asyncpg.PostgresError as error:
                cause = failure_of_error(error)
                if isinstance(cause, SinkNotConnected):
                    await self.pool.expire_connections()
                if is_about_the_server(error):
                    raise cause from None
                if len(writes) > 1:  # COMMIT was refused, for example by a deferred constraint, which names no payload
                    raise
                failures[writes[0][0]] = cause
            except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
                raise SinkNotConnected(reason_of(error), detail=detail_of(error)) from None
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Close the pool; safe to call twice and before `connect`."""
        pool, self.pool = self.pool, None
        if pool is not None:
            await pool.close()

    def _writes(self, batch: Sequence[Delivery], failures: dict[int, Exception]) -> list[tuple[int, Write]]:
        writes = []
        for index, delivery in enumerate(batch):
            try:
                writes.append((index, write_of(delivery.payload, self._settings.statements)))
            except SinkRejected as error:
                failures[index] = error
        return writes


class _Transaction:
    """A batch on one connection."""

    def __init__(self, connection: Any, writes: list[tuple[int, Write]], failures: dict[int, Exception]) -> None:
        self._connection = connection
        self._writes = writes
        self._failures = failures
        self._refused: dict[str, SinkMisconfigured] = {}  # by the statement, whatever its values

    async def run(self) -> None:
        """Write all of it together, or else each payload by itself."""
        try:
            async with self._connection.transaction():
                for _, run in groupby((write for _, write in self._writes), key=lambda write: write.sql):
                    await self._execute(list(run))
        except SinkError:
            async with self._connection.transaction():
                for index, write in self._writes:
                    await self._alone(index, write)

    async def _alone(self, index: int, write: Write) -> None:
        if (refused := self._refused.get(write.sql)) is not None:
            self._failures[index] = refused
            return
        try:
            async with self._connection.transaction():
                await self._execute([write])
        except SinkError as error:
            self._failures[index] = error
            if isinstance(error, SinkMisconfigured):
                self._refused[write.sql] = error

    async def _execute(self, writes: list[Write]) -> None:
        """Run one statement with the values of all writes."""
        import asyncpg

        sql, _, names = writes[0]
        parsed = ""
        try:
            statement = await self._connection.prepare(sql)
            fitters = [(each, fitter_of(each)) for each in await self._parameters(statement, names)]
            rows = [fit_row(fitters, write.values) for write in writes]
            if all(each.never_parsed for each, _ in fitters):
                await statement.executemany(rows)
                return
            for expressions, run in groupby(rows, key=_expressions):
                if any(expressions):
                    parsed = ", ".join(name for name, each in zip(names, expressions, strict=True) if each)
                    statement = await self._connection.prepare(with_expressions(sql, expressions))
                await statement.executemany([[_sent(value) for value in row] for row in run])
        except asyncpg.PostgresError as error:
            if is_about_the_server(error):
                raise
            cause = failure_of_error(error)
            if parsed and isinstance(cause, SinkRejected):
                reason = f"{reason_of(error)}; it parsed the values for {parsed}"
                raise SinkRejected(reason, detail=detail_of(error)) from None
            raise cause from None
        except (TypeError, ValueError) as error:  # the client could not encode a value
            raise SinkRejected(f"PostgreSQL: a value does not fit: {type(error).__name__}", detail=str(error)) from None

    async def _parameters(self, statement: Any, names: tuple[str, ...]) -> list[Parameter]:
        parameters = []
        for name, kind in zip(names, statement.get_parameters(), strict=True):
            attributes = await self._connection.fetch(_ATTRIBUTES, kind.oid) if kind.kind == "composite" else ()
            known = frozenset(attribute for (attribute,) in attributes)
            parameters.append(Parameter(name, kind.name, kind.kind, kind.schema, known))
        return parameters


def _expressions(row: list[Any]) -> tuple[str | None, ...]:
    return tuple(value.expression if type(value) is Parsed else None for value in row)


def _sent(value: Any) -> Any:
    return value.value if type(value) is Parsed else value


def _wrap(value: Any, _record: Record, name: str, _settings: PostgresSinkConfig) -> PostgresPayload:
    return PostgresPayload(table=name, data=value, sink=name)


def _check(payload: PostgresPayload, _settings: Mapping[str, Any]) -> None:
    if payload.op is not PostgresOp.STATEMENT:
        write_of(payload, {})


SPEC = SinkSpec(
    kind="postgres",
    payload_type=PostgresPayload,
    settings_type=PostgresSinkConfig,
    make=PostgresSink,
    wrap=_wrap,
    check_payload=_check,
    prove=prove,
    client="asyncpg",
    not_checked="tables and columns that only payloads name (PostgresPayload.table)",
)
"""Spec of the PostgreSQL sink."""
