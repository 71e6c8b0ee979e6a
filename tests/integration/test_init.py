"""A project that `drakkar-flow init` wrote runs against a broker as it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka_io import Kafka, create_topic, delete_topics, produce, read_all
from support.names import unique
from support.worker import Worker

pytestmark = pytest.mark.integration


@pytest.fixture
def directory(kafka: Kafka, tmp_path: Path) -> Iterator[Path]:
    """A directory whose name is nobody else's, with the topics the README has one create."""
    made = tmp_path / unique("words")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    topics = [f"{made.name}-{end}" for end in ("in", "out", "in_dlq")]
    for topic in topics:
        create_topic(admin, topic, 1)
    yield made
    delete_topics(admin, topics)


@pytest.mark.parametrize("style", ["handler", "flow"])
def test_the_project_counts_words(kafka: Kafka, directory: Path, style: str) -> None:
    """Documents in, counts out; a record that is no document is a dead letter."""
    command = [sys.executable, "-m", "drakkar_flow.cli.main", "init", str(directory), "--style", style]
    subprocess.run(command, check=True, capture_output=True)
    documents = [json.dumps({"name": str(n), "text": "word " * n}) for n in range(1, 6)]
    produce(kafka.bootstrap, f"{directory.name}-in", [*documents, "no document"])
    environment = {"KAFKA_BROKERS": kafka.bootstrap, "DRAKKAR_METRICS__PORT": "0"}
    worker = Worker(["-m", "drakkar_flow.cli.main", "run", "pipeline.py"], directory, environment)
    try:
        out, dead = f"{directory.name}-out", f"{directory.name}-in_dlq"
        worker.until(lambda: len(read_all(kafka.bootstrap, out)) >= 5, "it counted")
        worker.until(lambda: read_all(kafka.bootstrap, dead), "it wrote a dead letter")
        counted = [json.loads(message.value() or b"") for message in read_all(kafka.bootstrap, out)]
        assert sorted((c["name"], c["words"]) for c in counted) == [(str(n), n) for n in range(1, 6)]
        assert worker.terminate(signal.SIGTERM) == 0, worker.stderr
    finally:
        worker.close()
