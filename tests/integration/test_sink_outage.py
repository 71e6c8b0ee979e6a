"""A database that goes down for a while and comes back: nothing is lost, and nothing becomes a dead letter."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from scripts.servers.postgres import Postgres
from support.kafka_io import end_offsets, read_all
from support.scene import Scene

pytestmark = pytest.mark.integration

FAST = {"attempts": 2, "initial_s": 0.01, "max_s": 0.02}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Postgres]:
    """A server of the test's own, with one table whose `id` tells the order of the rows."""
    server = Postgres(tmp_path / "postgres")
    server.start()
    try:
        query(server, "CREATE TABLE rows (id bigserial, lane int, place bigint, number bigint)")
        yield server
    finally:
        server.stop()


def query(server: Postgres, sql: str) -> list[Any]:
    """What the server answers."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(server.address)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    return asyncio.run(ask())


def number_in(letter: bytes) -> int:
    """The number of the row that a dead letter holds."""
    (payload,) = json.loads(letter)["original_payloads"]
    return int(json.loads(payload)["data"]["number"])


def check_rows(server: Postgres, scene: Scene, count: int) -> None:
    """Every record has its row, and each partition's rows came in order."""
    rows = query(server, "SELECT lane, place, number FROM rows ORDER BY id")
    assert {row["number"] for row in rows} == set(range(count))
    for topic_partition in range(scene.partitions):
        first = dict.fromkeys(row["place"] for row in rows if row["lane"] == topic_partition)
        assert list(first) == sorted(first)


def test_a_database_that_goes_down_and_comes_back_costs_nothing(scene: Scene, database: Postgres) -> None:
    """With when_open: wait its deliveries are held, the circuit opens and closes, every row arrives in order."""
    circuit = {"failure_threshold": 2, "cooldown_seconds": 0.3, "when_open": "wait"}
    settings = {"dsn": database.address, "retry": FAST, "circuit_breaker": circuit}
    worker = scene.start("rows", {"sinks": {"postgres": {"main": settings}}})
    with scene.feeding() as feeder:
        worker.until(lambda: sum(scene.committed().values()) > 100, "it committed")
        database.kill()
        worker.until(lambda: worker.metric("drakkar_sink_circuit_trips_total"), "the circuit opened")
        held = scene.committed()
        worker.until(lambda: (worker.metric("drakkar_sink_circuit_trips_total") or 0) > 2, "probes failed")
        assert sum(scene.committed().values()) - sum(held.values()) <= 50  # what was written just before
        database.resume(database.command())
        worker.until(lambda: worker.metric("drakkar_sink_circuit_open") == 0, "the circuit closed")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    check_rows(database, scene, feeder.count)
    assert sum(end_offsets(scene.bootstrap, scene.dlq).values()) == 0
    assert '"sink_circuit_open"' in worker.stderr
    assert '"sink_circuit_closed"' in worker.stderr


def test_by_default_what_a_database_that_is_down_missed_is_in_the_dead_letters(
    scene: Scene, database: Postgres
) -> None:
    """Rows and dead letters together are everything; the worker does not wait for the sink."""
    settings = {
        "dsn": database.address,
        "retry": FAST,
        "circuit_breaker": {"failure_threshold": 2, "cooldown_seconds": 1},
    }
    worker = scene.start("rows", {"sinks": {"postgres": {"main": settings}}})
    with scene.feeding() as feeder:
        worker.until(lambda: sum(scene.committed().values()) > 100, "it committed")
        database.kill()
        worker.until(lambda: worker.metric("drakkar_sink_circuit_open") == 1, "the circuit opened")
        database.resume(database.command())
        worker.until(lambda: worker.metric("drakkar_sink_circuit_open") == 0, "the circuit closed")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    dead = {number_in(letter.value() or b"") for letter in read_all(scene.bootstrap, scene.dlq)}
    written = {row["number"] for row in query(database, "SELECT number FROM rows")}
    assert dead
    assert written | dead == set(range(feeder.count))


@pytest.mark.parametrize("when_open", ["wait", "dlq"])
def test_g16_the_start_says_what_an_outage_of_each_sink_costs(
    scene: Scene, database: Postgres, tmp_path: Path, when_open: str
) -> None:
    """With the settings of a new project it costs no record; under `dlq` the line names the sink that makes letters."""
    project = tmp_path / "project"
    subprocess.run([sys.executable, "-m", "drakkar_flow", "init", str(project)], check=True, capture_output=True)
    circuit = yaml.safe_load((project / "pipeline.yaml").read_text())["sinks"]["circuit_breaker"]
    assert circuit["when_open"] == "wait"
    circuit |= {"failure_threshold": 1, "cooldown_seconds": 0.3, "when_open": when_open}
    sinks = {"postgres": {"main": {"dsn": database.address, "retry": FAST}}, "circuit_breaker": circuit}
    worker = scene.start("rows", {"sinks": sinks})
    with scene.feeding() as feeder:
        worker.until(lambda: sum(scene.committed().values()) > 100, "it committed")
        database.kill()
        worker.until(lambda: (worker.metric("drakkar_sink_circuit_trips_total") or 0) > 1, "probes failed")
        database.resume(database.command())
        worker.until(lambda: worker.metric("drakkar_sink_circuit_open") == 0, "the circuit closed")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    (line,) = worker.lines("sinks_when_open")
    assert {policy: line[policy] for policy in ("wait", "dlq") if policy in line} == {when_open: ["postgres-main"]}
    letters = sum(end_offsets(scene.bootstrap, scene.dlq).values())
    rows = {row["number"] for row in query(database, "SELECT number FROM rows")}
    assert (letters == 0) == (when_open == "wait")
    dead = {number_in(message.value() or b"") for message in read_all(scene.bootstrap, scene.dlq)}
    assert rows | dead == set(range(feeder.count))
