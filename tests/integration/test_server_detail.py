"""What a target answered to a refused row stands in dead letters, if that is wanted, and never in a log line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import pytest

from support.kafka_io import headers_of, read_all
from support.names import unique
from support.scene import Scene
from support.serving import serving

pytestmark = pytest.mark.integration

TEXT = "private-4711"


class _Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(422, f"not {TEXT}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def service() -> Iterator[str]:
    """The address of a service that refuses every request and quotes it."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Echo)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/"


@pytest.fixture
def table(postgres: str) -> Iterator[str]:
    """A table that has the text already."""
    name = unique("t").replace("-", "_")
    _run(postgres, f"CREATE TABLE {name} (text text UNIQUE); INSERT INTO {name} VALUES ('{TEXT}')")
    yield name
    _run(postgres, f"DROP TABLE {name}")


def _run(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("wanted", [True, False])
def test_g18_the_words_of_a_server_are_for_dead_letters_only(
    scene: Scene, postgres: str, service: str, table: str, wanted: bool
) -> None:
    """Letters have them by dlq.include_server_detail; lines name the error, the constraint and the status."""
    settings: dict[str, dict[str, Any]] = {
        "sinks": {"kafka": {}, "postgres": {"main": {"dsn": postgres}}, "http": {"main": {"url": service}}},
        "dlq": {"topic": scene.dlq, "include_server_detail": wanted},
        "logging": {"level": "WARNING"},
    }
    worker = scene.start("refused", settings, {"TABLE": table})
    scene.fill(3)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr

    letters = read_all(scene.bootstrap, scene.dlq)
    assert len(letters) == 6
    for letter in letters:
        headers = {name: value.decode() for name, value in headers_of(letter).items()}
        detail = headers.pop("drakkar.server_detail", "")
        assert (TEXT in detail) is wanted
        assert not any(TEXT in text for text in headers.values())
    log = worker.stdout + worker.stderr
    assert TEXT not in log
    assert f"{table}_text_key" in log
    assert "422 Unprocessable" in log
