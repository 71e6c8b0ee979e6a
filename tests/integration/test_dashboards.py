"""A real Prometheus scrapes a worker, answers every query of the dashboards and evaluates every rule."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from scripts.monitoring.promtool import find
from scripts.servers.process import free_ports
from support.kafka_io import produce
from support.promql import plain
from support.scene import Scene
from support.until import until
from support.worker import ROOT, Worker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        find("prometheus") is None,
        reason="there is no prometheus; put it on PATH, or run: python -m scripts.monitoring.promtool",
    ),
]
DEPLOY = ROOT / "deploy"
SILENT = {
    "Bytes by topic",
    "Changes",
    "Entries of other workers",
    "Hits and misses",
    "Circuits opened",
    "Failed writes",
    "Keys by topic",
    "Periodic functions",
    "Stalls",
    "Time to catch up",
}
"""Panels that show nothing while no sink or thread fails, in a flow without state, cache and periodic functions."""


class Prometheus:
    """A Prometheus with the alerts under deploy/ that scrapes one target every second."""

    def __init__(self, directory: Path, target: str, port: int) -> None:
        scrape = {"job_name": "flows", "static_configs": [{"targets": [target]}]}
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(DEPLOY / "prometheus" / "alerts.yaml")],
            "scrape_configs": [scrape],
        }
        file = directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(settings))
        self._address = f"127.0.0.1:{port}"
        program = find("prometheus")
        assert program is not None
        places = ["--config.file", str(file), "--storage.tsdb.path", str(directory / "tsdb")]
        self._process = subprocess.Popen(
            [program, *places, "--web.listen-address", self._address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; None while it does not answer."""
        try:
            with urlopen(f"http://{self._address}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as exc:
            if exc.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it starts
                return None
            raise AssertionError(f"{parameters}: {exc.read().decode()}") from exc
        except OSError:
            return None

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        data = self.get("query", query=expr)
        return [] if data is None else data["result"]

    def has(self, expr: str) -> bool:
        """Whether an expression gives a series now."""
        return bool(self.query(expr))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def worker(scene: Scene) -> Worker:
    """A worker whose tasks and hooks fail now and then."""
    started = scene.start("telling", {"executor": {"binary_path": "sh"}}, {"WORKER_ID": "w-1"})
    started.until_running()
    return started


@pytest.fixture
def prometheus(worker: Worker, tmp_path: Path) -> Iterator[Prometheus]:
    """Scrapes the worker from before its first record on."""
    (served,) = worker.lines("metrics_served")
    (port,) = free_ports(1)
    made = Prometheus(tmp_path, f"127.0.0.1:{served['port']}", port)
    try:
        until(lambda: made.has("drakkar_worker_info"), 60, "the first scrape")
        yield made
    finally:
        made.close()


def test_every_panel_and_every_rule_is_answered(scene: Scene, worker: Worker, prometheus: Prometheus) -> None:
    """No query fails; each panel has a value but for those of failures and features that the flow lacks."""
    scripts = ["echo well", "exit 3", "echo raise", "sleep 0.2"]
    produce(scene.bootstrap, scene.source, scripts, partition=2)
    until(lambda: prometheus.has("sum(drakkar_records_finished_total) >= 4"), 60, "a scrape of these")
    produce(scene.bootstrap, scene.source, scripts * 5, partition=2)
    until(lambda: prometheus.has("sum(rate(drakkar_records_finished_total[1m])) > 0"), 60, "a rate")
    scene.until_finished()
    silent: set[str] = set()
    for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in [panel for each in dashboard["panels"] for panel in (each, *each.get("panels", ()))]:
            answers = [prometheus.has(plain(target["expr"])) for target in panel.get("targets", ())]
            if answers and not any(answers):
                silent.add(panel["title"])
    assert silent <= SILENT
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert prometheus.query("job_group:drakkar_consumer_lag:sum")[0]["metric"]["consumer_group"] == scene.group
    assert worker.terminate() == 0, worker.stderr
