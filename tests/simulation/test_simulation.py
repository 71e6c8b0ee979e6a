"""Whatever the order of events, the failures and the crashes: the invariants hold after each step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.scheduler import Violation
from simulation.simulation import simulate, timeline_of

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "300"))
CHUNK = 10
ONE = os.environ.get("SIMULATION_SEED", "")
TESTS = Path(__file__).parents[1]
TIMELINES = """
from simulation.simulation import simulate
for seed in (1, 3, 4, 33):
    lines = []
    simulate(seed, lines)
    print(*lines, sep="\\n")
"""


@pytest.mark.timeout(600)  # a machine that does much else is slow, not wrong
@pytest.mark.parametrize("first", [int(ONE)] if ONE else range(0, SEEDS, CHUNK))
def test_the_invariants_hold(first: int) -> None:
    """In flows of steps and of tasks, in both modes; the report of a seed that fails is its timeline."""
    for seed in range(first, first + (1 if ONE else CHUNK)):
        try:
            simulate(seed)
        except Violation:
            pytest.fail(timeline_of(seed), pytrace=False)


def test_a_seed_always_does_the_same() -> None:
    """Also in another process, where sets have another order."""
    timelines = {
        subprocess.run(
            [sys.executable, "-c", TIMELINES],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(timelines) == 1
    assert "begins" in timelines.pop()
