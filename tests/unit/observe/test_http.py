"""The page that Prometheus scrapes, over real sockets."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from drakkar_flow.errors import StartupError
from drakkar_flow.observe import events as ev
from drakkar_flow.observe import http
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.collectors import RuntimeGauges
from drakkar_flow.observe.http import MetricsServer
from drakkar_flow.observe.metrics import Metrics


@pytest.fixture
def server():
    """A server on a free port, with nothing to serve."""
    server = MetricsServer(CollectorRegistry(), host="127.0.0.1", port=0)
    server.start()
    yield server
    server.close()


def scrape(port: int, host: str = "127.0.0.1") -> str:
    """Fetch the page."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def test_a_scrape_shows_what_was_counted():
    """An event that was emitted is on the page."""
    bus, metrics = Bus(), Metrics()
    metrics.listen(bus)
    server = MetricsServer(metrics.registry, host="127.0.0.1", port=0)
    server.start()
    bus.emit(ev.DeadLettersWritten(3))
    try:
        assert "drakkar_sink_dlq_messages_total 3.0\n" in scrape(server.port)
    finally:
        server.close()


def test_port_zero_picks_a_port_of_its_own(server):
    """Two servers that don't care get different ports."""
    other = MetricsServer(CollectorRegistry(), host="127.0.0.1", port=0)
    other.start()
    try:
        assert 0 < other.port != server.port > 0
    finally:
        other.close()


def test_a_taken_port_is_a_problem_with_a_remedy(server):
    """The message names the port and what to set; trying again later may help, hence exit code 1."""
    second = MetricsServer(CollectorRegistry(), host="127.0.0.1", port=server.port)
    with pytest.raises(StartupError, match=rf"port {server.port} is taken; set metrics\.port") as caught:
        second.start()
    assert caught.value.exit_code == 1
    second.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_a_problem_of_the_configuration(host):
    """Neither a foreign address nor an unknown name can be listened on: exit code 2."""
    with pytest.raises(StartupError, match=r"set metrics\.host") as caught:
        MetricsServer(CollectorRegistry(), host=host, port=0).start()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("host", "url_host"), [("::1", "[::1]"), ("localhost", "localhost"), ("", "127.0.0.1")])
def test_any_address_of_this_machine_can_be_listened_on(host, url_host):
    """IPv6, a name, and the empty host for all addresses."""
    server = MetricsServer(CollectorRegistry(), host=host, port=0)
    server.start()
    try:
        assert scrape(server.port, url_host) == ""
    finally:
        server.close()


def test_close_frees_the_port_and_ends_the_threads(server):
    """After close nothing of the server is left, and closing again is harmless."""
    scrape(server.port)
    server.close()
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "drakkar-metrics"]
    again = MetricsServer(CollectorRegistry(), host="127.0.0.1", port=server.port)
    again.start()
    again.close()


def test_a_client_that_never_asks_neither_blocks_scrapes_nor_close(server, monkeypatch):
    """A connection without a request has its own thread, and close cuts it without waiting for its time to run out."""
    monkeypatch.setattr(http._Handler, "timeout", 1000.0)
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        scrape(server.port)
        server.close()
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) < before


def test_a_client_that_never_asks_is_let_go(server, monkeypatch):
    """Idle connections don't pile up: after its time the server closes them, silently."""
    monkeypatch.setattr(http._Handler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        assert silent.recv(1) == b""


def test_a_client_that_goes_away_is_no_event(server, caplog):
    """A scraper that hangs up in the middle of its request leaves no trace in the log."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as hasty:
        hasty.sendall(b"GET /metrics HT")
        hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not a clean end
    scrape(server.port)
    server.close()
    assert caplog.text == ""


def test_a_metric_that_can_not_be_read_is_logged_and_the_server_lives_on(caplog):
    """A scrape that fails is the scrape's problem alone."""
    metrics = Metrics(CollectorRegistry())
    metrics.watch(lambda: 1 / 0)
    server = MetricsServer(metrics.registry, host="127.0.0.1", port=0)
    server.start()
    try:
        with pytest.raises(OSError, match="closed connection"):
            scrape(server.port)
        metrics.watch(RuntimeGauges)
        assert "drakkar_broker_up" in scrape(server.port)
    finally:
        server.close()
    assert "metrics_scrape_failed" in caplog.text
