"""The metrics page answers while records flow, which is when it is looked at."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.kafka_io import produce
from support.py_drakkar import METRICS_OF_PY_DRAKKAR
from support.scene import Scene

pytestmark = pytest.mark.integration


def test_scrapes_are_answered_under_load_and_lag_ends_at_zero(scene: Scene) -> None:
    """Twenty scrapes in the middle of the stream; when all is committed, no partition lags."""
    worker = scene.start("precomputed")
    with scene.feeding() as feeder:
        worker.until(lambda: sum(scene.committed().values()) > 100, "it committed")
        for _ in range(20):
            assert worker.metric("drakkar_messages_consumed_total")
    scene.until_finished()
    assert worker.metric("drakkar_records_finished_total") == feeder.count
    worker.until(lambda: worker.metric("drakkar_consumer_lag") == 0, "the lag was gone")
    assert worker.terminate() == 0


def test_a_worker_at_work_serves_py_drakkars_metrics(scene: Scene) -> None:
    """Every one is on its page by name, and what has been counted carries the labels that dashboards ask for."""
    worker = scene.start("telling", {"executor": {"binary_path": "sh"}})
    produce(scene.bootstrap, scene.source, ["echo well", "exit 3", "echo raise", "echo large"], partition=2)
    scene.until_finished()
    page = worker.metrics()
    assert worker.terminate() == 0, worker.stderr
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert {metric.name for metric in METRICS_OF_PY_DRAKKAR} - labels.keys() == set()
    told = {metric.name: metric.labels for metric in METRICS_OF_PY_DRAKKAR if labels[metric.name]}
    assert told == {name: labels[name] for name in told}
    assert len(told) >= 12
