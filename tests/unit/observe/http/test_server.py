"""The page that Prometheus scrapes, over real sockets."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from prometheus_client import CollectorRegistry, Gauge

from drakkar_flow.errors import StartupError
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.sinks import DeadLettersWritten
from drakkar_flow.observe.http.server import MetricsServer
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.observe.metrics.prometheus import Metrics
from support.until import until


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server on a free port, with nothing to serve."""
    server = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[0])
    server.start()
    yield server
    server.close()


def scrape(port: int, host: str = "127.0.0.1") -> str:
    """Fetch the page."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        page: str = answer.read().decode()
        return page


def test_a_scrape_shows_what_was_counted() -> None:
    """An event that was emitted is on the page."""
    bus, metrics = Bus(), Metrics()
    metrics.listen(bus)
    server = MetricsServer(metrics.registry, host="127.0.0.1", ports=[0])
    server.start()
    bus.emit(DeadLettersWritten(3))
    try:
        assert "drakkar_sink_dlq_messages_total 3.0\n" in scrape(server.port)
    finally:
        server.close()


def test_port_zero_picks_a_port_of_its_own(server: MetricsServer) -> None:
    """Two servers that don't care get different ports."""
    other = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[0])
    other.start()
    try:
        assert 0 < other.port != server.port > 0
    finally:
        other.close()


def test_a_taken_port_is_a_problem_with_a_remedy(server: MetricsServer) -> None:
    """The message names the port and what to set; trying again later may help, hence exit code 1."""
    second = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[server.port])
    with pytest.raises(StartupError, match=rf"port {server.port} is in use; set metrics\.port") as caught:
        second.start()
    assert caught.value.exit_code == 1
    second.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_a_problem_of_the_configuration(host: str) -> None:
    """Neither a foreign address nor an unknown name can be listened on: exit code 2."""
    with pytest.raises(StartupError, match=r"set metrics\.host") as caught:
        MetricsServer(CollectorRegistry(), host=host, ports=[0]).start()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("host", "url_host"), [("::1", "[::1]"), ("localhost", "localhost"), ("", "127.0.0.1")])
def test_any_address_of_this_machine_can_be_listened_on(host: str, url_host: str) -> None:
    """IPv6, a name, and the empty host for all addresses."""
    server = MetricsServer(CollectorRegistry(), host=host, ports=[0])
    server.start()
    try:
        assert scrape(server.port, url_host) == ""
    finally:
        server.close()


def test_close_frees_the_port_and_ends_the_threads(server: MetricsServer) -> None:
    """After close nothing of the server is left, and closing again is harmless."""
    scrape(server.port)
    server.close()
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "drakkar-metrics"]
    again = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[server.port])
    again.start()
    again.close()


def test_a_client_that_never_asks_neither_blocks_scrapes_nor_close(server: MetricsServer) -> None:
    """Close cuts a connection without a request without waiting for its time to run out."""
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        scrape(server.port)
        server.close()
        assert silent.recv(1) == b""
    assert set(threading.enumerate()) < before


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nA: "])
def test_a_client_that_does_not_finish_its_request_is_closed(sent: bytes) -> None:
    """Idle and slow connections don't pile up: after its time the server closes them, silently."""
    server = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[0], request_s=0.05)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(sent)
        assert slow.recv(1) == b""
    server.close()


def test_a_client_that_goes_away_is_no_event(server: MetricsServer, caplog: pytest.LogCaptureFixture) -> None:
    """A scraper that hangs up in the middle of its request leaves no trace in the log."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as hasty:
        hasty.sendall(b"GET /metrics HT")
        hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not a clean end
    scrape(server.port)
    server.close()
    assert caplog.text == ""


def test_a_metric_that_can_not_be_read_is_reported_and_the_server_lives_on() -> None:
    """A scrape that fails is answered with 500 and is the scrape's problem alone."""
    metrics = Metrics(CollectorRegistry())
    errors: list[BaseException] = []
    metrics.watch(lambda: 1 / 0)  # type: ignore[arg-type, return-value]  # wrong on purpose
    server = MetricsServer(metrics.registry, host="127.0.0.1", ports=[0], on_error=errors.append)
    server.start()
    try:
        with pytest.raises(urllib.error.HTTPError, match="500") as refused:
            scrape(server.port)
        refused.value.close()
        metrics.watch(RuntimeGauges)
        assert "drakkar_broker_up" in scrape(server.port)
    finally:
        server.close()
    assert [type(error) for error in errors] == [ZeroDivisionError]


def ask(port: int, head: str) -> tuple[int, dict[str, str], str]:
    """Send the head of a request and give the status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    first, _, rest = received.decode().partition("\r\n")
    headers, _, body = rest.partition("\r\n\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in headers.split("\r\n")), body


@pytest.fixture
def paged() -> Iterator[MetricsServer]:
    """A server with one page beside the metrics."""
    metrics = Metrics(CollectorRegistry())
    pages = {"/healthz": lambda: (503, {"status": "stalled"}), "/broken": lambda: (1 // 0, {})}
    server = MetricsServer(metrics.registry, host="127.0.0.1", ports=[0], pages=pages)
    server.start()
    yield server
    server.close()


@pytest.mark.parametrize("path", ["/ready", "/health", "/foo", "/metrics.txt", "/metrics/x", "/favicon.ico", "*"])
def test_n11_unknown_paths_are_not_found(paged: MetricsServer, path: str) -> None:
    """404 names the paths that exist."""
    status, _, body = ask(paged.port, f"GET {path} HTTP/1.1")
    assert (status, body.split()) == (404, ["/metrics", "/healthz", "/broken"])


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics?name[]=drakkar_state", "http://host/metrics"])
def test_n11_metrics_are_at_their_path(paged: MetricsServer, path: str) -> None:
    """With a query, a slash at the end, or as a proxy writes it."""
    status, headers, body = ask(paged.port, f"GET {path} HTTP/1.0")
    assert (status, headers["Content-Type"][:10]) == (200, "text/plain")
    assert "drakkar_state" in body


def test_n11_the_root_lists_the_paths(paged: MetricsServer) -> None:
    """For whoever opens the port in a browser."""
    status, _, body = ask(paged.port, "GET / HTTP/1.1")
    assert (status, body.split()) == (200, ["/metrics", "/healthz", "/broken"])


@pytest.mark.parametrize(("path", "expected"), [("/metrics", 200), ("/healthz", 503), ("/", 200), ("/nope", 404)])
def test_n11_head_has_the_headers_of_get(paged: MetricsServer, path: str, expected: int) -> None:
    """Status and length, no body."""
    status, headers, body = ask(paged.port, f"HEAD {path} HTTP/1.1\nHost: x")
    assert (status, body) == (expected, "")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_n11_other_methods_are_not_allowed(paged: MetricsServer, method: str) -> None:
    """405 says which are."""
    status, headers, _ = ask(paged.port, f"{method} /metrics HTTP/1.1\nContent-Length: 0")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("head", ["hello", "GET /metrics", "GET  /metrics HTTP/1.1", "GET http://[ HTTP/1.1", ""])
def test_what_is_no_request_is_answered_with_400(paged: MetricsServer, head: str) -> None:
    """The server goes on."""
    assert ask(paged.port, head)[0] == 400
    assert ask(paged.port, "GET /healthz HTTP/1.1")[0] == 503


def test_g2_a_request_head_is_bounded(paged: MetricsServer) -> None:
    """Headers without end are answered with 431."""
    with socket.create_connection(("127.0.0.1", paged.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000)
        assert client.recv(100).startswith(b"HTTP/1.1 431 ")


def test_a_page_that_raises_is_answered_with_500(paged: MetricsServer) -> None:
    """It is a bug, and no reason to leave a probe without an answer."""
    assert ask(paged.port, "GET /broken HTTP/1.1")[0] == 500


def test_the_page_is_compressed_on_request(paged: MetricsServer) -> None:
    """As Prometheus asks for it."""
    with socket.create_connection(("127.0.0.1", paged.port), timeout=10) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
        head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert b"drakkar_state" in gzip.decompress(body)


def test_g2_a_metric_that_blocks_leaves_the_other_pages_alone() -> None:
    """It has its own thread, which neither probes nor the end wait for."""
    metrics, release = Metrics(CollectorRegistry()), threading.Event()
    metrics.watch(lambda: release.wait(60) and None)  # type: ignore[arg-type, return-value]  # it only waits
    server = MetricsServer(metrics.registry, host="127.0.0.1", ports=[0], pages={"/healthz": lambda: (200, {})})
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert ask(server.port, "GET /healthz HTTP/1.1")[0] == 200
            server.close()
            assert scraper.recv(1) == b""
    finally:
        release.set()


def test_g2_slow_clients_take_a_bounded_number_of_descriptors_and_threads(paged: MetricsServer) -> None:
    """Beyond 64 connections the oldest that has not sent its request makes room; honest requests are answered."""
    threads, descriptors = threading.active_count(), psutil.Process().num_fds()
    slow = []
    try:
        for _ in range(300):
            slow.append(client := socket.create_connection(("127.0.0.1", paged.port), timeout=10))
            client.sendall(b"G")
        assert ask(paged.port, "GET /healthz HTTP/1.1")[0] == 503
        assert psutil.Process().num_fds() - descriptors <= len(slow) + 66
        assert threading.active_count() <= threads + 1
    finally:
        for client in slow:
            client.close()


def test_g2_a_client_that_reads_nothing_is_closed() -> None:
    """The time of a request includes the answer."""
    big = Metrics(CollectorRegistry())
    Gauge("big", "Big.", ["a"], registry=big.registry)
    gauge = Gauge("bigger", "Big.", ["a"], registry=big.registry)
    for number in range(2_000):
        gauge.labels("x" * 4_000 + str(number)).set(1)
    server = MetricsServer(big.registry, host="127.0.0.1", ports=[0], request_s=1.0)
    server.start()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: not connections_of(server.port), what="the server to close the connection")
    server.close()


def connections_of(port: int) -> list[object]:
    """The open connections of this process whose server side has this port."""
    return [c for c in psutil.Process().net_connections("tcp4") if c.laddr.port == port and c.status == "ESTABLISHED"]


def test_n8_the_first_free_port_is_taken() -> None:
    """Several servers share a range; when it is used up the error says how to get more."""
    first = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[0])
    first.start()
    ports = range(first.port, min(first.port + 50, 65_536))
    others = [MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=ports) for _ in range(2)]
    try:
        others[0].start()
        others[1].start()
        assert first.port < others[0].port < others[1].port
        taken = [first.port, others[0].port]
        others.append(MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=taken))
        with pytest.raises(StartupError, match=rf"ports {taken[0]}-{taken[1]} are in use; set metrics\.port_range"):
            others[2].start()
    finally:
        for server in (first, *others):
            server.close()
