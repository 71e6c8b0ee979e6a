"""DrakkarApp: who the worker is, what it is told, and how it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import DrakkarApp, DrakkarConfig, ExecutorTask, Handler
from drakkar_flow.engine.worker_process import WorkerProcess
from drakkar_flow.errors import ConfigError
from drakkar_flow.graph.flow import StreamFlow


class Idle(Handler):
    """A handler that finds nothing to do."""

    async def arrange(self, messages: Any, pending: Any) -> list[ExecutorTask]:
        """No task."""
        return []


def app(worker_id: str = "", **config: Any) -> DrakkarApp:
    """An app that reads no file."""
    return DrakkarApp(Idle(), config=DrakkarConfig(**config), worker_id=worker_id)


def test_a_worker_is_named_by_the_argument_then_the_environment_then_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The configuration says which variable."""
    monkeypatch.setenv("POD", "pod-3")
    assert app("w-1", worker_name_env="POD").worker_id == "w-1"
    assert app(worker_name_env="POD").worker_id == "pod-3"
    assert app(worker_name_env="NO_SUCH_VARIABLE").worker_id == f"drakkar-{os.getpid()}"


def test_a_running_flow_has_the_names_that_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its logs and metrics, not only where the app is asked."""
    monkeypatch.setenv("TEAM", "blue")
    flow = StreamFlow.from_handler(Idle())
    config = DrakkarConfig(cluster_name="red", cluster_name_env="TEAM")
    life = WorkerProcess(flow, config, own_logging=False, own_signals=False, worker_id="w-1")
    assert (life.worker_id, life.cluster_name) == ("w-1", "blue")
    monkeypatch.setenv("TEAM", "")
    assert WorkerProcess(flow, config, own_logging=False, own_signals=False).cluster_name == "red"


def test_the_summary_is_one_line_of_what_matters() -> None:
    """In py-drakkar's order and abbreviations."""
    sinks = {"kafka": {"a": {"topic": "t"}, "b": {"topic": "u"}}, "sqlite": {"main": {"path": "x.db"}}}
    settings = {
        "kafka": {"source_topic": "orders", "consumer_group": "g", "max_poll_records": 7},
        "executor": {"max_executors": 2, "window_size": 9, "max_retries": 1, "task_timeout_seconds": 2.5},
        "dlq": {"topic": "dead"},
        "metrics": {"enabled": False},
        "logging": {"level": "DEBUG"},
    }
    assert app("w", cluster_name="c", sinks=sinks, **settings).config_summary == (
        "[w/c] topic=orders group=g exec=2w/9win/7poll retries=1/2.5s metrics=off dlq=dead"
        " sinks=[kf:a,b sq:main] log=DEBUG"
    )


def test_the_configuration_is_read_once_and_not_at_all_when_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `config` neither the file nor the environment counts."""
    path = tmp_path / "drakkar.yaml"
    path.write_text("kafka: {source_topic: from-file}\n")
    monkeypatch.setenv("DRAKKAR_KAFKA__CONSUMER_GROUP", "from-environment")
    read = DrakkarApp(Idle(), path)
    assert (read.config.kafka.source_topic, read.config.kafka.consumer_group) == ("from-file", "from-environment")
    path.unlink()
    assert read.config is read.config
    given = DrakkarApp(Idle(), path, DrakkarConfig())
    assert (given.config.kafka.source_topic, given.config.kafka.consumer_group) == ("input-events", "drakkar-workers")


def test_a_wrong_configuration_is_told_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or is raised, where the configuration is asked for."""
    path = tmp_path / "drakkar.yaml"
    path.write_text("kafka: {broker: x}\n")
    with pytest.raises(SystemExit) as left:
        DrakkarApp(Idle(), path).run()
    assert left.value.code == 2
    assert "kafka.broker: unknown key" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        _ = DrakkarApp(Idle(), path).config


def test_a_start_that_fails_is_told_and_ends_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """What only a started flow finds out; the worker that tells it has its name."""
    with pytest.raises(SystemExit) as left:
        app("w-9", metrics={"enabled": False}).run()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert "no sink is configured" in said
    assert '"worker_id": "w-9"' in said
