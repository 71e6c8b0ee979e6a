"""Configurations in real workers: what moved works and is told, and the handler's own settings count."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml

from support.scene import PIPELINES, Scene
from support.worker import Worker

pytestmark = pytest.mark.integration


def lines(worker: Worker, event: str) -> list[dict[str, str]]:
    """The log lines of one event."""
    found = [json.loads(line) for line in worker.stderr.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def run(scene: Scene, config: Path, pipeline: str = "precomputed", **environment: str) -> Worker:
    """A worker of a pipeline with a configuration."""
    flow = PIPELINES / f"{pipeline}.py"
    return scene.launch("-m", "drakkar_flow.cli.main", "run", flow, "--config", config, environment=environment)


def as_2_4(scene: Scene) -> Path:
    """The scene's configuration in the form of py-drakkar 2.4."""
    file = scene.config()
    config = yaml.safe_load(file.read_text())
    source = config["kafka"]
    config["kafka"] = {"brokers": source.pop("brokers")}
    config["sources"] = {"kafka": {"enabled": True, "topic": source.pop("source_topic"), **source}}
    config["dlq"]["on_send_failure"] = "stall"
    config["ui"] = {"port": 8081}
    file.write_text(yaml.safe_dump(config))
    return file


def test_a_configuration_of_2_4_runs_and_is_told_what_moved(scene: Scene) -> None:
    """Each moved key is a warning with its line, and the records arrive."""
    scene.fill(20)
    config = as_2_4(scene)
    worker = run(scene, config)
    worker.until_running()
    scene.until_finished()
    assert worker.terminate(signal.SIGTERM) == 0
    scene.check_delivered(20)
    notices = lines(worker, "config_notice")
    assert {notice["level"] for notice in notices} == {"warning"}
    told = {notice["where"].split()[-1]: notice["what"] for notice in notices}
    assert told["sources.kafka.topic"] == "is now kafka.source_topic; its value counts there"
    assert told["dlq.on_send_failure"] == "is now dlq.on_failure; its value counts there"
    assert "there is no web page" in told["debug.port"]
    assert told["debug"] == "accepted, but debug.enabled is false unless given"
    assert all(notice["where"].startswith(f"{config}:") for notice in notices)


def test_the_file_beside_the_flow_is_found_and_told(scene: Scene) -> None:
    """As py-drakkar's users have it: `main.py` and `drakkar.yaml`; the start says which file it read."""
    scene.fill(5)
    flow = scene.directory / "main.py"
    flow.write_text((PIPELINES / "precomputed.py").read_text())
    config = scene.config().rename(scene.directory / "drakkar.yaml")
    worker = scene.launch("-m", "drakkar_flow.cli.main", "run", "main.py")
    worker.until_running()
    scene.until_finished()
    assert worker.terminate(signal.SIGTERM) == 0
    (started,) = lines(worker, "drakkar_starting")
    assert started["config"] == f"{config} (beside the flow)"


def test_workers_wait_for_the_common_start_and_a_signal_ends_that_wait(scene: Scene) -> None:
    """Nothing is read before it; SIGTERM during it is an orderly end at once."""
    scene.fill(5)
    align = {"startup_align_enabled": True, "startup_min_wait_seconds": 600}
    waiting = scene.start("precomputed", {"kafka": align})
    waiting.until(lambda: lines(waiting, "startup_align_waiting"), "it waited")
    assert lines(waiting, "drakkar_running") == []
    assert waiting.terminate(signal.SIGTERM) == 0
    assert scene.committed() == {}
    aligned = scene.start(
        "precomputed",
        {"kafka": align | {"startup_min_wait_seconds": 0.1, "startup_align_interval_seconds": 1}},
    )
    scene.until_finished()
    assert lines(aligned, "startup_align_done")
    assert aligned.terminate(signal.SIGTERM) == 0


def test_the_handlers_own_settings_are_checked_at_the_start(scene: Scene) -> None:
    """Exit 2 with the line; the variable APP_LIMIT sets what is missing."""
    wrong = run(scene, scene.config({"app": {"limit": "lots", "limmit": 1}}), "typed_app")
    assert wrong.wait() == 2
    assert wrong.stderr.count("\n  - ") == 2
    assert "app.limit: must be a whole number, not 'lots'" in wrong.stderr
    assert "app.limmit: unknown key; did you mean 'limit'?" in wrong.stderr
    scene.fill(5)
    right = run(scene, scene.config(), "typed_app", APP_LIMIT="3")
    right.until_running()
    scene.until_finished()
    assert right.terminate(signal.SIGTERM) == 0
