"""TLS of sinks: a handshake that fails each time ends the start (exit code 2) instead of being tried again."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.errors import StartupError
from drakkar_flow.sinks.registry import SPECS
from support.certificates import make_certificates

pytestmark = pytest.mark.xdist_group("tls_of_sinks")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of them."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[int]:
    """The port of a server with a certificate that nobody trusts; it speaks PostgreSQL's prelude to TLS too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if connection.recv(8, socket.MSG_PEEK) == b"\0\0\0\x08\x04\xd2\x16\x2f":
                connection.recv(8)
                connection.sendall(b"S")
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "redis": ("url", {"url": "rediss://127.0.0.1:{port}/0"}),
    "postgres": ("dsn", {"dsn": "postgresql://joe:pw@127.0.0.1:{port}/app?sslmode=verify-full&sslrootcert={ca}"}),
    "mongo": (
        "uri",
        {"uri": "mongodb://127.0.0.1:{port}/?tls=true&serverSelectionTimeoutMS=2000", "database": "app"},
    ),
    "http": ("url", {"url": "https://127.0.0.1:{port}/"}),
}


@pytest.fixture
def collected() -> Iterator[None]:
    """Collects what a test has left, here and not in whichever test runs later.

    PyMongo leaves the socket of a handshake that its own `close` cancels to the collector, which warns.
    """
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("kind", TARGETS)
def test_a_certificate_that_is_not_trusted_ends_the_start(kind: str, server: int, certificates: Path) -> None:
    """With exit code 2, the key and the remedy."""
    key, settings = TARGETS[kind]
    authority = certificates / "other.pem"
    given = {name: value.format(port=server, ca=authority) for name, value in settings.items()}
    config = from_mapping({"sinks": {kind: {"main": given}}})
    sink = SPECS[kind].make("main", getattr(config.sinks, kind)["main"])

    async def start() -> None:
        try:
            await sink.connect()
        finally:  # as a start does that fails
            await sink.close()

    with pytest.raises(StartupError) as refused:
        asyncio.run(start())
    (problem,) = refused.value.problems
    assert (refused.value.exit_code, problem.where) == (2, f"sinks.{kind}.main.{key}")
    assert "certificate" in problem.remedy
