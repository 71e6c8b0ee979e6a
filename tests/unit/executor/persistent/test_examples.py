"""The example workers, each in its language, as children of a pool."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drakkar_flow.executor.base import run
from drakkar_flow.model.task import ExecutorResult
from unit.executor.persistent.conftest import Pool, run_all, task

pytestmark = pytest.mark.anyio

WORKERS = Path(__file__).parents[4] / "examples" / "workers"


@pytest.fixture
def upper(tmp_path: Path) -> str:
    """The example in C, built here."""
    built = tmp_path / "upper"
    subprocess.run([shutil.which("cc") or "cc", "-o", built, WORKERS / "upper.c"], check=True)
    return str(built)


async def test_the_examples_answer_in_capitals(make_pool: Pool, upper: str) -> None:
    """Python with the helper and without, C; text with several lines, which no filter could take."""
    for program in (
        [sys.executable, str(WORKERS / "with_helper.py")],
        [sys.executable, str(WORKERS / "plain.py")],
        [upper],
    ):
        pool = await make_pool(program, children=2)
        results = await run_all(pool, *(f"line\nand {number}" for number in range(20)))
        assert [result.stdout for result in results] == [f"LINE\nAND {number}" for number in range(20)]


async def test_the_shell_example_answers(make_pool: Pool) -> None:
    """Without a process for each task: its pid stays."""
    pool = await make_pool(["sh", str(WORKERS / "load.sh")])
    first, second = await run(pool, task("")), await run(pool, task(""))
    assert isinstance(first, ExecutorResult)
    assert first.stdout
    assert first.pid == second.pid
