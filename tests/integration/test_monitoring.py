"""The HTTP server of a worker: hostile clients take nothing from the flow, and workers of one host share a range."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from support.scene import PIPELINES, Scene

pytestmark = pytest.mark.integration


@contextmanager
def dripping(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have sent the beginning of a request, kept open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)]
    try:
        drip(clients)
        yield clients
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def drip(clients: list[socket.socket]) -> None:
    """Send one byte on each connection that is still open."""
    for client in clients:
        with suppress(OSError):
            client.send(b"G", socket.MSG_DONTWAIT)


def port_of(pid: int) -> int:
    """The port that a process listens on; 0 before it does."""
    ports = [c.laddr.port for c in psutil.Process(pid).net_connections("tcp4") if c.status == psutil.CONN_LISTEN]
    return ports[0] if ports else 0


def test_g2_slow_clients_take_nothing_from_the_flow(scene: Scene) -> None:
    """1,100 connections drip bytes at a worker with 1,024 descriptors: all records are committed, probes answered."""
    worker = scene.start("verbatim")
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    worker.until(lambda: worker.get("/readyz")[0] == 200, "it was ready")
    process = psutil.Process(worker.pid)
    threads, descriptors = process.num_threads(), process.num_fds()
    with dripping(port_of(worker.pid), 1_100) as clients:
        scene.fill(4_000)
        for _ in range(5):
            drip(clients)
            assert worker.get("/healthz")[0] == 200
            assert process.num_threads() <= threads + 5
            assert process.num_fds() <= descriptors + 100
        scene.until_finished()
    assert len(scene.delivered()) == 4_000
    assert worker.terminate() == 0, worker.stderr


def test_n8_workers_of_one_host_take_the_next_free_port(scene: Scene) -> None:
    """With the default each worker serves on a port of the range, and its log says which."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = min(free.getsockname()[1], 65_000)
    config = scene.config()
    config.write_text(config.read_text().replace("  port: 0\n", f"  port_range: {first}-{first + 9}\n"))
    command = ("-m", "drakkar_flow.cli.main", "run", PIPELINES / "verbatim.py", "--config", config)
    workers = [scene.launch(*command) for _ in range(3)]
    for worker in workers:
        worker.until_running()
    ports = [worker.lines("metrics_served")[0]["port"] for worker in workers]
    assert sorted(ports) == sorted(set(ports))
    assert all(first <= port <= first + 9 for port in ports)
    assert [port_of(worker.pid) for worker in workers] == ports
    for worker in workers:
        assert worker.terminate() == 0, worker.stderr
