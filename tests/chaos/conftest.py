"""Fixtures of the chaos tests: short in a normal run, long with `make chaos`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kafka_io import Kafka
from support.scene import Scene

collect_ignore = ["pipelines"]  # programs for workers


@pytest.fixture
def scene(kafka: Kafka, tmp_path: Path) -> Iterator[Scene]:
    """Topics, a group and workers on the shared broker; all of it goes away after the test."""
    made = Scene(kafka.bootstrap, tmp_path)
    yield made
    made.close()


@pytest.fixture
def chance() -> random.Random:
    """Random choices; a failing test prints the seed, which CHAOS_SEED sets."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed: CHAOS_SEED={seed}")
    return random.Random(seed)
