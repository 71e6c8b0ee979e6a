"""Order by key with real programs, retries among them, over a restart."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from support.kafka_io import produce
from support.scene import Scene

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RECORDS, KEYS = 240, 12


def test_programs_of_a_key_run_one_at_a_time_and_their_results_arrive_in_order(scene: Scene, tmp_path: Path) -> None:
    """Twelve keys; every fifth program fails at first, any would beside one of its key; a restart in between."""
    locks = tmp_path / "locks"
    locks.mkdir()
    rules = {"exit_codes": [75], "initial_s": 0.02, "max_s": 0.05}
    executor = {"binary_path": "sh", "max_executors": 4, "ordering": "key", "retry": rules, "window_size": 10}
    values, keys = map(str, range(RECORDS)), [f"k{number % KEYS}" for number in range(RECORDS)]
    produce(scene.bootstrap, scene.source, values, keys=keys)
    retries = 0.0
    for part in (RECORDS // 3, RECORDS):
        worker = scene.start("ordered", {"executor": executor}, {"LOCKS": str(locks)})
        worker.until_running()
        worker.until(lambda part=part: len(scene.delivered()) >= part, f"{part} results were there", timeout_s=60)  # type: ignore[misc]  # mypy knows no lambda with a default here
        retries += worker.metric("drakkar_task_retries_total") or 0
        assert worker.terminate() == 0, worker.stderr
    scene.until_finished()
    assert retries
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for message in scene.delivered():
        by_key[message.key() or b""].append(int(message.value() or b""))
    assert by_key == {f"k{key}".encode(): list(range(key, RECORDS, KEYS)) for key in range(KEYS)}
