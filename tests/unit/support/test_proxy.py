"""The proxy does to connections what a test asks for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from support.proxy import TcpProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[TcpProxy]:
    """A proxy before the server."""
    with TcpProxy(echo) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    """A connection through the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(connection: socket.socket, text: bytes) -> bytes:
    """What the server answers; nothing when the connection breaks."""
    try:
        connection.sendall(text)
        return connection.recv(len(text), socket.MSG_WAITALL)
    except ConnectionError:
        return b""


def test_it_forwards_both_ways(proxy: TcpProxy) -> None:
    """Large data too, and several connections at once."""
    with connect(proxy) as one, connect(proxy) as two:
        assert ask(one, b"1" * 50_000) == b"1" * 50_000
        assert ask(two, b"2") == b"2"


def test_cut_breaks_what_is_open_and_welcomes_new_connections(proxy: TcpProxy) -> None:
    """As when a network loses a session."""
    with connect(proxy) as one:
        assert ask(one, b"1") == b"1"
        proxy.cut()
        assert ask(one, b"2") == b""
    with connect(proxy) as two:
        assert ask(two, b"3") == b"3"


def test_refuse_lasts_until_heal(proxy: TcpProxy) -> None:
    """The port stays the same."""
    with connect(proxy) as one:
        assert ask(one, b"1") == b"1"
        proxy.refuse()
        assert ask(one, b"2") == b""
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.heal()
    with connect(proxy) as two:
        assert ask(two, b"3") == b"3"


def test_a_black_hole_takes_everything_and_gives_nothing(proxy: TcpProxy) -> None:
    """Connections succeed and stay silent until it heals."""
    proxy.black_hole()
    with connect(proxy) as one:
        one.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(one, b"1")
        proxy.heal()
        one.settimeout(10)
        assert ask(one, b"2") == b""
    with connect(proxy) as two:
        assert ask(two, b"3") == b"3"


def test_delay_holds_data_back(proxy: TcpProxy) -> None:
    """In both directions."""
    proxy.delay_s = 0.1
    with connect(proxy) as one:
        began = time.monotonic()
        assert ask(one, b"1") == b"1"
        assert time.monotonic() - began >= 0.2


def test_nothing_is_left_in_the_end(echo: int) -> None:
    """Neither the thread nor open connections."""
    with TcpProxy(echo) as proxy, connect(proxy) as one:
        ask(one, b"1")
    assert proxy.connections == 0
    assert not [each for each in threading.enumerate() if each.name == "tcp-proxy"]
