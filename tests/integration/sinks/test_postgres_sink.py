"""The PostgreSQL sink: fail-over, time limits of a statement, rights, and what ends the start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from drakkar_flow.errors import StartupError
from drakkar_flow.sinks.postgres.payload import PostgresPayload
from drakkar_flow.sinks.postgres.settings import PostgresSinkConfig
from drakkar_flow.sinks.postgres.sink import SPEC, PostgresSink
from drakkar_flow.testing.conformance import deliver
from scripts.servers.postgres import Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.xdist_group("postgres")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of the tests' own."""
    made = Postgres(Path(tmp_path_factory.mktemp("postgres")))
    made.start()
    yield made
    made.stop()


async def run(server: Postgres, *statements: str) -> list[Any]:
    """Run statements by other means; gives the rows of the last."""
    connection = await asyncpg.connect(server.address)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return list(await connection.fetch(statements[-1]))
    finally:
        await connection.close()


async def made(server: Postgres, dsn: str = "", **settings: Any) -> PostgresSink:
    """A connected sink with a fresh table `rows`."""
    await run(server, "DROP TABLE IF EXISTS rows", "CREATE TABLE rows (n int PRIMARY KEY, text text)", "SELECT 1")
    sink = PostgresSink("main", PostgresSinkConfig(dsn=dsn or server.address, pool_min=1, pool_max=2, **settings))
    await sink.connect()
    return sink


def rows(count: int, start: int = 0) -> list[PostgresPayload]:
    """Rows with numbers."""
    return [PostgresPayload(table="rows", data={"n": n, "text": "x"}) for n in range(start, start + count)]


async def numbers(server: Postgres) -> list[int]:
    """What is stored."""
    return [row["n"] for row in await run(server, "SELECT n FROM rows ORDER BY n")]


async def test_f7_connections_to_a_server_that_became_read_only_are_left(server: Postgres) -> None:
    """25006 on an old connection, as after a fail-over behind one name; a new one can write."""
    await run(server, "DROP TABLE IF EXISTS rows", "CREATE TABLE rows (n int PRIMARY KEY, text text)", "SELECT 1")
    await run(server, "ALTER DATABASE drakkar SET default_transaction_read_only = on", "SELECT 1")
    sink = PostgresSink("main", PostgresSinkConfig(dsn=server.address, pool_min=2, pool_max=2))
    await sink.connect()
    try:
        reset = "SET default_transaction_read_only = off"
        await run(server, reset, "ALTER DATABASE drakkar RESET default_transaction_read_only", "SELECT 1")
        delivered = await deliver(sink, SPEC, rows(5))
    finally:
        await sink.close()
    assert delivered.failures == []
    assert await numbers(server) == [0, 1, 2, 3, 4]


async def test_f7_a_shutdown_costs_nothing(server: Postgres) -> None:
    """57P01 on every connection: the batch is tried again on new ones."""
    sink = await made(server)
    try:
        assert (await deliver(sink, SPEC, rows(1))).failures == []
        await run(
            server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        delivered = await deliver(sink, SPEC, rows(3, 1), attempts=4)
    finally:
        await sink.close()
    assert delivered.failures == []
    assert await numbers(server) == [0, 1, 2, 3]


@pytest.mark.parametrize("when_open", ["dlq", "wait"])
async def test_g6_a_statement_that_runs_out_of_time_costs_its_payload_only(server: Postgres, when_open: str) -> None:
    """57014 by statement_timeout: its neighbours are written, once; it is tried as often as the settings say."""
    statements = {"slow": "INSERT INTO rows SELECT :n, pg_sleep(:s)::text"}
    sink = await made(server, statements=statements)
    try:
        await run(server, "ALTER DATABASE drakkar SET statement_timeout = '300ms'", "SELECT 1")
        assert sink.pool is not None
        await sink.pool.expire_connections()
        slow = PostgresPayload(op="statement", statement="slow", params={"n": 99, "s": 5.0})
        payloads = [*rows(3), slow, *rows(3, 3)]
        delivered = await deliver(sink, SPEC, payloads, when_open=when_open, attempts=2)
    finally:
        await sink.close()
        await run(server, "ALTER DATABASE drakkar RESET statement_timeout", "SELECT 1")
    assert delivered.failed == [slow]
    assert await numbers(server) == list(range(6))


async def test_n1_missing_rights_are_told_from_row_security(server: Postgres) -> None:
    """Both are 42501; only the first is about the statement."""
    sink = await made(server)
    await sink.close()
    await run(
        server,
        "DROP ROLE IF EXISTS joe",
        "CREATE ROLE joe LOGIN",
        "CREATE TABLE IF NOT EXISTS closed (n int)",
        "GRANT INSERT ON rows TO joe",
        "ALTER TABLE rows ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY small ON rows FOR INSERT WITH CHECK (n < 10)",
        "SELECT 1",
    )
    sink = PostgresSink("main", PostgresSinkConfig(dsn=server.address.replace("drakkar@", "joe@"), pool_min=1))
    await sink.connect()
    try:
        closed = PostgresPayload(table="closed", data={"n": 1})
        large = PostgresPayload(table="rows", data={"n": 11})
        delivered = await deliver(sink, SPEC, [*rows(2), closed, large, *rows(2, 2)])
    finally:
        await sink.close()
        await run(server, "DROP TABLE rows, closed", "DROP ROLE joe", "SELECT 1")
    kinds = {id(failure.payload): failure.exception_class.rpartition(".")[2] for failure in delivered.failures}
    assert kinds == {id(closed): "SinkMisconfigured", id(large): "SinkRejected"}
    assert delivered.acknowledged == [0, 1, 4, 5]


async def test_n1_a_missing_table_costs_one_try_for_all_its_payloads(server: Postgres) -> None:
    """A thousand rows for a table that is gone: each a letter with the remedy, the other table's are written."""
    sink = await made(server)
    try:
        gone = [PostgresPayload(table="gone", data={"n": n}) for n in range(500)]
        delivered = await deliver(sink, SPEC, [*gone, *rows(5)])
    finally:
        await sink.close()
    assert len(delivered.failures) == 500
    assert {failure.exception_class for failure in delivered.failures} == {"drakkar_flow.errors.SinkMisconfigured"}
    assert "create the missing object" in delivered.failures[0].error
    assert await numbers(server) == list(range(5))


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("postgresql://drakkar@127.0.0.1:{port}/nowhere", "nowhere"),
        ("postgresql://nobody:PGPW@127.0.0.1:{port}/drakkar", "nobody"),
        ("postgresql://drakkar@127.0.0.1:{port}/drakkar?sslmode=PGPW", "does not accept this URL"),
        ("host=127.0.0.1 port={port} user=nobody password=PGPW dbname=drakkar", "nobody"),
    ],
)
async def test_n14_what_no_waiting_mends_ends_the_start_at_once(server: Postgres, dsn: str, told: str) -> None:
    """Wrong database, role, parameter: exit code 2, the key, and no secret."""
    sink = PostgresSink("main", PostgresSinkConfig(dsn=dsn.format(port=server.port)))
    with pytest.raises(StartupError) as caught:
        async with asyncio.timeout(5):
            await sink.connect()
    assert caught.value.exit_code == 2
    assert caught.value.problems[0].where == "sinks.postgres.main.dsn"
    assert told in str(caught.value)
    assert "PGPW" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://drakkar:a@b %c@127.0.0.1:{port}/drakkar",
        "host=127.0.0.1 port={port} user=drakkar password='a/b c' dbname=drakkar",
    ],
)
async def test_g8_passwords_of_all_characters_reach_the_server(server: Postgres, dsn: str) -> None:
    """What can be told apart is encoded for the client; libpq's form holds anything."""
    sink = await made(server, dsn=dsn.format(port=server.port))
    await sink.close()


async def test_a_server_that_is_not_there_yet_is_tried_again(server: Postgres) -> None:
    """Exit code 1: the address may be right."""
    sink = PostgresSink("main", PostgresSinkConfig(dsn="postgresql://joe:PGPW@127.0.0.1:1/app"))
    with pytest.raises(StartupError) as caught:
        await sink.connect()
    assert caught.value.exit_code == 1
    assert "PGPW" not in str(caught.value)
