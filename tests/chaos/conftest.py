"""Fixtures of the chaos tests: short in a normal run, long with `make chaos`."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kafka_io import Kafka
from support.scene import Scene
from support.worker import ROOT

PAGE = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- results -->\n", "<!-- end of results -->\n"
_SIZE = 6 << 20
_COLUMNS = ("Test", "Faults", "Records", "Lost", "Repeated", "State")

collect_ignore = ["pipelines"]  # programs for workers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the long tests out of a normal run."""
    if not os.environ.get("CHAOS_LONG"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="long; run it with: make chaos"))


@pytest.fixture
def scene(kafka: Kafka, tmp_path: Path) -> Iterator[Scene]:
    """Topics, a group and workers on the shared broker; all of it goes away after the test."""
    made = Scene(kafka.bootstrap, tmp_path)
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(point)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture
def results() -> Iterator[list[tuple[object, ...]]]:
    """Rows of the table in docs/reliability.md, which `make chaos` replaces; those of other tests stay."""
    rows: list[tuple[object, ...]] = []
    yield rows
    if rows and os.environ.get("CHAOS_PAGE"):
        before, rest = PAGE.read_text().split(_BEGIN)
        table, after = rest.split(_END)
        known = {line.split(" | ")[0]: line for line in table.splitlines()[2:]}
        lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
        known |= {line.split(" | ")[0]: line for line in lines}
        head = [f"| {' | '.join(row)} |" for row in (_COLUMNS, ("---",) * len(_COLUMNS))]
        table = "\n".join([*head, *(known[name] for name in sorted(known)), ""])
        PAGE.write_text(f"{before}{_BEGIN}{table}{_END}{after}")


@pytest.fixture
def chance() -> random.Random:
    """Random choices; a failing test prints the seed, which CHAOS_SEED sets."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed: CHAOS_SEED={seed}")
    return random.Random(seed)
