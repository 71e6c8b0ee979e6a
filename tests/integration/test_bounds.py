"""What is in flight is bounded by all the bytes it holds, and by the time that a stop has."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kafka_io import MakeCluster, produce
from support.scene import Scene
from support.worker import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 1024 * 1024
DEFAULTS = {"max_in_flight_records": 10_000, "commit_interval_s": 0.5, "commit_max_offsets": 1000}


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A URL whose server takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def sinks(url: str) -> dict[str, object]:
    """The HTTP sink and nothing else; its outage is waited for."""
    return {"kafka": {}, "http": {"out": {"url": url}}, "circuit_breaker": {"when_open": "wait"}}


def settled_memory(worker: Worker) -> int:
    """The resident memory once it has not grown by 8 MiB for three seconds: at most what it reached before that."""
    peak, since = worker.resident_bytes(), time.monotonic()

    def settled() -> bool:
        nonlocal peak, since
        if (now := worker.resident_bytes()) > peak + 8 * MIB:
            peak, since = now, time.monotonic()
        return time.monotonic() - since > 3 or peak > 1000 * MIB

    worker.until(settled, "its memory settled", timeout_s=60)
    return peak


@pytest.mark.parametrize("made_by", ["program", "stdin", "payload", "map", "map_async"])
def test_g4_memory_is_bounded_by_what_is_made_of_records(scene: Scene, black_hole: str, made_by: str) -> None:
    """8,000 small records become a megabyte each while the sink is in a black hole: most of them are not made yet."""
    scene.fill(8_000)
    worker = scene.start("large", {"runtime": DEFAULTS, "sinks": sinks(black_hole)}, {"LARGE": made_by})
    worker.until_running()
    start = worker.resident_bytes()
    peak = settled_memory(worker)
    print(f"{made_by}: start {start // MIB} MiB, peak {peak // MIB} MiB")
    assert peak - start < 320 * MIB


def test_g15_a_stop_with_a_sink_in_a_black_hole_fits_its_budget(scene: Scene, black_hole: str) -> None:
    """Drain and close together, whatever hangs; what was not delivered is not committed."""
    scene.fill(2_000)
    budgets = {"drain_timeout_s": 4.0, "close_timeout_s": 2.0}
    worker = scene.start("posting", {"runtime": DEFAULTS | budgets, "sinks": sinks(black_hole)})
    worker.until(lambda: (worker.metric("drakkar_in_flight_records") or 0) > 0, "records were in flight")
    started = time.monotonic()
    code = worker.terminate()
    took_s = time.monotonic() - started
    print(f"stopped after {took_s:.1f} s")
    assert code == 1
    assert took_s < 4.0 + 2.0 + 2.5, worker.stderr
    assert sum(scene.committed().values()) == 0


def test_g15_no_more_is_in_flight_than_a_drain_can_finish(scene: Scene) -> None:
    """Programs that take 0.2 s, 4 at once: of 2,000 records a drain of 5 s leaves none behind."""
    scene.fill(2_000)
    runtime = DEFAULTS | {"drain_timeout_s": 5.0}
    overrides: dict[str, dict[str, Any]] = {"runtime": runtime, "executor": {"binary_path": "sh", "max_executors": 4}}
    worker = scene.start("sleepy", overrides)
    worker.until(lambda: sum(scene.committed().values()) > 40, "it committed", timeout_s=60)
    assert worker.terminate() == 0, worker.stderr
    assert "drain budget expired" not in worker.stderr


def test_g15_a_stop_without_brokers_fits_its_budget(make_cluster: MakeCluster, tmp_path: Path, black_hole: str) -> None:
    """The sink is in a black hole, the broker is gone: the last commit is given up in time as well."""
    cluster = make_cluster()
    scene = Scene(cluster.bootstrap, tmp_path)
    try:
        scene.fill(500)
        budgets = {"drain_timeout_s": 3.0, "close_timeout_s": 2.0}
        worker = scene.start("posting", {"runtime": DEFAULTS | budgets, "sinks": sinks(black_hole)})
        worker.until(lambda: (worker.metric("drakkar_in_flight_records") or 0) > 0, "records were in flight")
        cluster.kill_broker(1)
        started = time.monotonic()
        assert worker.terminate() == 1
        took_s = time.monotonic() - started
        print(f"stopped after {took_s:.1f} s")
        assert took_s < 3.0 + 2.0 + 2.5, worker.stderr
    finally:
        for worker in scene.workers:
            worker.close()


def test_g15_a_hook_that_blocks_the_loop_does_not_keep_a_process_for_ever(scene: Scene) -> None:
    """What can't be cancelled is left behind: the stop is overdue, which one line says, and the process ends."""
    produce(scene.bootstrap, scene.source, ["block"])
    budgets = {"drain_timeout_s": 1.0, "close_timeout_s": 1.0}
    worker = scene.start("blocking", {"runtime": budgets})
    worker.until(lambda: "blocked" in worker.stdout, "the loop was blocked")
    started = time.monotonic()
    assert worker.terminate() == 1
    assert time.monotonic() - started < 1.0 + 1.0 + 4.0, worker.stderr
