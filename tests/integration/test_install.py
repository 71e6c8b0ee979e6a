"""A fresh user's main path: the wheel in a clean environment, a project of `init`, and every command on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka_io import Kafka, delete_topics, produce, read_all
from support.names import unique
from support.until import until
from support.worker import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("install"),
]

VARIABLES = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, directory: Path, **variables: str) -> str:
    """What a command that must succeed prints."""
    ended = subprocess.run(
        list(map(str, command)), cwd=directory, env={**VARIABLES, **variables}, capture_output=True, text=True
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment into which pip installed the wheel, with extras."""
    directory = tmp_path_factory.mktemp("install")
    base: str = getattr(sys, "_base_executable", sys.executable)
    run(base, "-m", "venv", "venv", directory=directory)
    programs = directory / "venv" / "bin"
    run(programs / "pip", "wheel", "-q", "--no-deps", "-w", "dist", ROOT, directory=directory)
    (wheel,) = (directory / "dist").glob("*.whl")
    run(programs / "pip", "install", "-q", f"{wheel}[postgres,redis]", directory=directory)
    return programs


@pytest.fixture
def name(kafka: Kafka) -> Iterator[str]:
    """A project's name that is nobody else's; its topics go away after the test."""
    name = unique("words")
    yield name
    delete_topics(
        AdminClient({"bootstrap.servers": kafka.bootstrap}), [f"{name}-{end}" for end in ("in", "out", "in_dlq")]
    )


@pytest.mark.parametrize("style", ["handler", "flow"])
def test_n15_the_first_hour(installed: Path, tmp_path: Path, kafka: Kafka, name: str, style: str) -> None:
    """init, test, lint, topics create, check, run, status."""
    command, directory = installed / "drakkar-flow", tmp_path / name
    variables = {"KAFKA_BROKERS": kafka.bootstrap, "DRAKKAR_METRICS__PORT": "0"}
    assert "drakkar-flow " in run(installed / "python", "-m", "drakkar_flow", "-V", directory=tmp_path)
    run(command, "init", name, "--style", style, directory=tmp_path)
    assert "4 passed, 0 failed" in run(command, "test", ".", directory=directory)
    assert ": ok" in run(command, "lint", "pipeline.py", "--strict", directory=directory)
    assert run(command, "topics", "create", "pipeline.py", directory=directory, **variables).count("created") == 3
    assert "FAILED" not in run(command, "check", "pipeline.py", directory=directory, **variables)
    produce(kafka.bootstrap, f"{name}-in", [json.dumps({"name": str(n), "text": "word " * n}) for n in range(3)])
    worker = subprocess.Popen(
        [installed / "python", "pipeline.py"], cwd=directory, env={**VARIABLES, **variables}, process_group=0
    )
    try:
        until(lambda: len(read_all(kafka.bootstrap, f"{name}-out")) == 3, 60, "the counts", poll_s=0.5)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
    status = json.loads(run(command, "status", "pipeline.py", "--json", directory=directory, **variables))
    assert (status["lag"], status["members"]) == (0, [])
