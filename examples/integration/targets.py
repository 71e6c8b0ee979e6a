"""The targets of a run: Kafka, PostgreSQL, MongoDB's protocol and Redis as servers, the HTTP hook as a thread."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from examples.integration.workload import refused_by_hook
from scripts.servers.mongo import Mongo
from scripts.servers.postgres import Postgres
from scripts.servers.redis import Redis
from scripts.services import KafkaCluster, install_programs

__all__ = ["Hook", "Servers", "Targets", "external_targets", "own_targets", "prepare"]

COMPOSED: Mapping[str, str] = {
    "KAFKA_BROKERS": "localhost:9092",
    "POSTGRES_DSN": "postgresql://drakkar:drakkar@localhost:5432/drakkar",
    "MONGO_URI": "mongodb://localhost:27017",
    "REDIS_URL": "redis://localhost:6379/0",
}
"""The addresses of the servers of compose.yaml."""
PARTITIONS = 50
TABLE = (
    "CREATE TABLE found (record_id bigint NOT NULL, path text NOT NULL, pattern text NOT NULL, matches int NOT NULL)"
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections of a killed worker break, which is no news."""


class Hook:
    """An HTTP hook that keeps what it accepted: 422 for results it refuses, 503 for every 50th request."""

    def __init__(self) -> None:
        self.accepted: list[tuple[int, int]] = []
        self._requests = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="hook", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._server.server_port}/found"

    def answer(self, body: bytes) -> int:
        """Take one result; returns the status."""
        found = json.loads(body)
        with self._lock:
            self._requests += 1
            if self._requests % 50 == 0:
                return 503
            if refused_by_hook(found["record_id"]):
                return 422
            self.accepted.append((found["record_id"], found["matches"]))
            return 200

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                status = hook.answer(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Requests are counted, not printed."""

        return Handler


@dataclass(frozen=True)
class Servers:
    """The server processes that this run started and may break."""

    kafka: KafkaCluster
    postgres: Postgres
    mongo: Mongo
    redis: Redis


@dataclass(frozen=True)
class Targets:
    """Addresses of the targets.

    `environment` has the variables that drakkar.yaml names; `output` is the directory of the workers' files;
    `servers` is None where the servers are not ours.
    """

    environment: Mapping[str, str]
    hook: Hook
    output: Path
    servers: Servers | None = None

    @property
    def brokers(self) -> str:
        """Kafka's bootstrap servers."""
        return self.environment["KAFKA_BROKERS"]


@contextmanager
def own_targets(directory: Path) -> Iterator[Targets]:
    """Start all servers on free ports below `directory`; stop them and remove their data at the end.

    Raises:
        ServerError: a server did not start.
        SystemExit: a server is not installed, and this user may not install it.
    """
    install_programs(("kafka", "postgres", "mongo", "redis"))
    servers = Servers(
        KafkaCluster(directory / "kafka"),
        Postgres(directory / "postgres"),
        Mongo(directory / "mongo"),
        Redis(directory / "redis"),
    )
    with ExitStack() as stack:
        for server in (servers.kafka, servers.postgres, servers.mongo, servers.redis):
            stack.callback(server.stop)
            server.start()
        addresses = {
            "KAFKA_BROKERS": servers.kafka.address,
            "POSTGRES_DSN": servers.postgres.address,
            "MONGO_URI": servers.mongo.address,
            "REDIS_URL": servers.redis.address,
        }
        yield stack.enter_context(_with_hook(addresses, directory, servers))


@contextmanager
def external_targets(directory: Path) -> Iterator[Targets]:
    """Use servers that run already: those that the environment names, else those of compose.yaml."""
    with _with_hook({name: os.environ.get(name, default) for name, default in COMPOSED.items()}, directory) as targets:
        yield targets


@contextmanager
def _with_hook(addresses: Mapping[str, str], output: Path, servers: Servers | None = None) -> Iterator[Targets]:
    hook = Hook()
    try:
        yield Targets({**addresses, "HOOK_URL": hook.url, "OUTPUT": str(output)}, hook, output, servers)
    finally:
        hook.close()


async def prepare(targets: Targets) -> None:
    """Make the topics and the table.

    Raises:
        RuntimeError: a topic or the table exists: the targets must be empty, or the books could not balance.
    """
    admin = AdminClient({"bootstrap.servers": targets.brokers})
    topics = {"searches": PARTITIONS, "found": 4, "searches-failed": 1}
    try:
        made = admin.create_topics([NewTopic(name, num_partitions=count) for name, count in topics.items()])
        for future in made.values():
            future.result(30)
        connection = await asyncpg.connect(targets.environment["POSTGRES_DSN"])
        try:
            await connection.execute(TABLE)
        finally:
            await connection.close()
    except (KafkaException, asyncpg.PostgresError, OSError) as error:
        raise RuntimeError(f"{error}; start with empty targets: docker compose down --volumes") from error
