"""Fixtures of the failure tests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kafka_io import Kafka
from support.scene import Scene

collect_ignore = [
    "pipelines",
    "switched",
]  # programs for workers, which import them in processes of their own


@pytest.fixture
def scene(kafka: Kafka, tmp_path: Path) -> Iterator[Scene]:
    """Topics, a group and workers on the shared broker; all of it goes away after the test."""
    made = Scene(kafka.bootstrap, tmp_path)
    yield made
    made.close()


@pytest.fixture
def chance() -> random.Random:
    """Random choices whose seed is printed, so that a failure can be had again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed: {seed}")
    return random.Random(seed)
