"""The cache beside real workers: over restarts and kills, between workers, on a disk that can't be used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.kafka_io import produce
from support.scene import Scene
from support.until import until

pytestmark = pytest.mark.integration

PROGRAM = """\
#!/bin/sh
echo run >> "$RUNS"
cat
"""


def settings(directory: Path, **cache: Any) -> dict[str, dict[str, object]]:
    """A worker whose program notes each of its runs."""
    program = directory / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    values = {"enabled": True, "db_dir": str(directory / "cache"), "flush_interval_seconds": 0.1, **cache}
    return {
        "executor": {"binary_path": str(program), "env": {"RUNS": str(directory / "runs")}},
        "cache": values,
        "logging": {"format": "json"},
    }


def runs(directory: Path) -> int:
    """How many programs have run."""
    path = directory / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def stored(directory: Path, worker: str) -> int:
    """How many results the file of a worker has."""
    path = directory / "cache" / worker / "cache-1.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])


def send(scene: Scene, values: Iterable[object]) -> None:
    """Write records, and wait until all of the topic are finished."""
    produce(scene.bootstrap, scene.source, map(str, values))
    scene.until_finished(120)


@pytest.mark.timeout(240)
def test_results_outlive_a_kill_and_the_program_runs_once_for_each_input(scene: Scene, tmp_path: Path) -> None:
    worker = scene.start("cached", settings(tmp_path), {"WORKER_ID": "w"})
    worker.until_running()
    send(scene, range(20))
    until(lambda: stored(tmp_path, "w") == 20, 30, "results on disk")
    worker.kill()
    again = scene.start("cached", settings(tmp_path), {"WORKER_ID": "w"})
    again.until_running()
    send(scene, range(20))
    assert runs(tmp_path) == 20
    again.until(lambda: again.metric('drakkar_cache_hits_total{source="db"}') == 20, "hits")
    assert again.metric("drakkar_tasks_precomputed_total") == 20
    assert again.metric("drakkar_cache_stored") == 1
    assert again.terminate() == 0
    assert len(scene.delivered()) >= 40


@pytest.mark.timeout(240)
def test_a_worker_has_the_results_of_another_one(scene: Scene, tmp_path: Path) -> None:
    peers = {"peer_sync": {"interval_seconds": 0.5, "secret": "hush"}}
    one = scene.start("cached", settings(tmp_path, **peers), {"WORKER_ID": "one"})
    one.until_running()
    send(scene, range(20))
    assert one.terminate() == 0
    other = scene.start("cached", settings(tmp_path, **peers), {"WORKER_ID": "two"})
    other.until_running()
    until(lambda: stored(tmp_path, "two") == 20, 60, "results of the other worker")
    send(scene, range(20))
    assert runs(tmp_path) == 20
    other.until(lambda: other.metric('drakkar_cache_sync_entries_upserted_total{peer="one"}') == 20, "entries of one")
    assert other.terminate() == 0
    assert "hush" not in other.stderr + other.stdout


@pytest.mark.timeout(240)
def test_a_cache_that_can_not_be_stored_is_one_line_and_the_flow_goes_on(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    worker = scene.start("cached", settings(tmp_path), {"WORKER_ID": "w"})
    worker.until_running()
    send(scene, range(5))
    send(scene, range(5))
    (line,) = worker.lines("cache_in_memory")
    assert "others may write to it: chmod go-w it, or set cache.db_dir" in line["reason"]
    worker.until(lambda: worker.metric("drakkar_cache_stored") == 0, "the gauge")
    assert worker.terminate() == 0
    assert runs(tmp_path) == 5
