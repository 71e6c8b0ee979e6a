"""The main job finds what grep finds, in three places, and tells nothing found from failed."""

from __future__ import annotations

import json
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from drakkar_flow import ErrorAction, ExecutorError, ExecutorTask
from flows.pipeline import flow, on_error
from support.flow_run import run_flow
from support.kafka_io import Kafka, MakeTopic


def search(path: Path, pattern: str) -> bytes:
    """A record that asks for a search."""
    return json.dumps({"path": str(path), "pattern": pattern}).encode()


@pytest.mark.integration
def test_each_search_is_answered_everywhere_or_is_a_dead_letter(
    kafka: Kafka, make_topic: MakeTopic, tmp_path: Path
) -> None:
    """Hits, no hits, a pattern like an option, a missing file and a broken record all end as they should."""
    text = tmp_path / "-text"
    text.write_text("one\n-v two\none two\n")
    inputs = [search(text, "one"), search(text, "three"), search(text, "-v"), search(tmp_path / "none", "x"), b"?"]
    sinks = {
        "kafka": {"found": {}},
        "sqlite": {"found": {"path": str(tmp_path / "found.db")}},
        "filesystem": {"found": {"base_path": str(tmp_path)}},
    }
    outcome = run_flow(kafka, make_topic, flow, inputs, {"sinks": sinks})
    assert [(value["pattern"], value["matches"], value["lines"]) for value in outcome.values] == [
        ("-v", 1, ["2:-v two"]),
        ("one", 2, ["1:one", "3:one two"]),
        ("three", 0, []),
    ]
    database = connect(tmp_path / "found.db")
    found = database.execute("SELECT pattern, matches, first FROM found ORDER BY pattern").fetchall()
    database.close()
    assert found == [("-v", 1, "2:-v two"), ("one", 2, "1:one"), ("three", 0, "")]
    lines = (tmp_path / "found.jsonl").read_text().splitlines()
    assert sorted((json.loads(line) for line in lines), key=repr) == outcome.values
    assert sorted(outcome.dead) == sorted([inputs[3].decode(), "?"])
    assert (outcome.exit_code, outcome.committed) == (0, 5)
    totals = outcome.statistics.totals
    assert (totals.tasks_completed, totals.tasks_failed, totals.tasks_precomputed) == (2, 2, 1)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        ({"kind": "signal", "exit_code": -9}, ErrorAction.RETRY),
        ({"kind": "nonzero_exit", "exit_code": 2}, ErrorAction.DLQ),
        ({"kind": "timeout"}, ErrorAction.DLQ),
    ],
)
def test_what_was_killed_is_run_again_and_what_failed_is_a_dead_letter(
    error: dict[str, Any], action: ErrorAction
) -> None:
    """Only grep's exit code 1 means that nothing was found."""
    task = ExecutorTask(task_id="t", source_offsets=[1])
    assert on_error(task, ExecutorError(task=task, **error)) == action
