"""The example of a plug-in: built, installed into a clean environment, tested by itself, and run."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.kafka_io import Kafka, MakeTopic, committed, produce
from support.until import until

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"
VARIABLES = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, directory: Path, **variables: str) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(
        list(map(str, command)), cwd=directory, env={**VARIABLES, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment into which pip installed both wheels."""
    directory = tmp_path_factory.mktemp("plugin")
    base: str = getattr(sys, "_base_executable", sys.executable)
    run(base, "-m", "venv", "venv", directory=directory)
    programs = directory / "venv" / "bin"
    source = shutil.copytree(PLUGIN, directory / "source")
    run(programs / "pip", "wheel", "-q", "--no-deps", "-w", "dist", ROOT, source, directory=directory)
    run(programs / "pip", "install", "-q", *(directory / "dist").glob("*.whl"), "pytest", directory=directory)
    return programs


def test_it_passes_its_own_tests(installed: Path, tmp_path: Path) -> None:
    """The conformance suites, from the installed library."""
    shutil.copytree(PLUGIN / "tests", tmp_path / "tests")
    assert " passed" in run(installed / "python", "-m", "pytest", "-q", "tests", directory=tmp_path)


@pytest.mark.integration
def test_a_job_uses_it(installed: Path, tmp_path: Path, kafka: Kafka, make_topic: MakeTopic) -> None:
    """Linted, checked and run as any other: rows are written, a text that no row takes is a dead letter."""
    for name in ("pipeline.py", "pipeline.yaml"):
        shutil.copy(PLUGIN / name, tmp_path)
    topic = make_topic(partitions=1)
    variables = {
        "KAFKA_BROKERS": kafka.bootstrap,
        "TOPIC": topic,
        "DRAKKAR_DLQ__TOPIC": make_topic(partitions=1),
        "DRAKKAR_METRICS__PORT": "0",
    }
    command = installed / "drakkar-flow"
    assert run(command, "lint", "pipeline.py", "--strict", directory=tmp_path, **variables).endswith(": ok\n")
    shown = run(command, "config", "show", "pipeline.yaml", directory=tmp_path, **variables)
    assert "pipeline:measure" in shown
    checked = run(command, "check", "pipeline.py", directory=tmp_path, **variables)
    assert "FAILED" not in checked
    assert "sinks.csv.words" in checked

    produce(kafka.bootstrap, topic, ["to be or not to be", "that is, the question", ""])
    worker = subprocess.Popen(
        [command, "run", "pipeline.py"], cwd=tmp_path, env={**VARIABLES, **variables}, process_group=0
    )
    try:
        group = f"{topic}-words"
        until(lambda: committed(kafka.bootstrap, group, topic) == {0: 3}, 60, "the commits", poll_s=0.5)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
    with (tmp_path / "words.csv").open(newline="") as file:
        assert sorted(csv.reader(file)) == [["", "0"], ["that is, the question", "4"], ["to be or not to be", "6"]]
