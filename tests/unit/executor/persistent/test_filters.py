"""Programs that know nothing of us: a line in, and lines out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.errors import StartupError
from drakkar_flow.executor.base import run
from drakkar_flow.model.task import ExecutorError, ExecutorResult
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.tasks import TaskFellBack
from unit.executor.persistent.conftest import Pool, of, run_all, task

pytestmark = pytest.mark.anyio

GREP = ["grep", "--line-buffered", "-e", "apple", "-e", "^#drakkar-"]
UPPER_C = """
#include <ctype.h>
#include <stdio.h>
int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int c; (c = getchar()) != EOF;) putchar(toupper(c));
    return 0;
}
"""


async def test_a_filter_answers_line_by_line(make_pool: Pool) -> None:
    """64 tasks are under way at once; each gets its own line, with its end."""
    pool = await make_pool(["cat"], protocol="lines")
    assert pool.statistics().slots == 64
    results = await run_all(pool, *(f"line {number}" for number in range(500)))
    assert [result.stdout for result in results] == [f"line {number}\n" for number in range(500)]


@pytest.fixture
def upper(tmp_path: Path) -> str:
    """A filter in C, built here."""
    (tmp_path / "upper.c").write_text(UPPER_C)
    subprocess.run([shutil.which("cc") or "cc", "-o", tmp_path / "upper", tmp_path / "upper.c"], check=True)
    return str(tmp_path / "upper")


async def test_a_filter_may_be_a_shell_script_or_a_python_script_or_in_c(make_pool: Pool, upper: str) -> None:
    """Whatever reads lines, writes lines and does not hold them back."""
    shell = 'while read -r line; do printf "%s\\n" "$line" | tr a-z A-Z; done'
    python = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
    for program in (["sh", "-c", shell], [sys.executable, "-c", python], [upper]):
        pool = await make_pool(program, protocol="lines")
        assert [result.stdout for result in await run_all(pool, "a", "b")] == ["A\n", "B\n"]


async def test_a_filter_that_passes_markers_may_answer_with_no_line_or_several(make_pool: Pool) -> None:
    """`grep` drops what does not match: its answer is empty, and a success."""
    pool = await make_pool(GREP, protocol="lines", answer="marker")
    results = await run_all(pool, "an apple", "a pear", "apples")
    assert [result.stdout for result in results] == ["an apple\n", "", "apples\n"]
    twice = await make_pool(["sed", "-u", "-e", "/^#drakkar-/b", "-e", "p"], protocol="lines", answer="marker")
    assert [result.stdout for result in await run_all(twice, "a", "b")] == ["a\na\n", "b\nb\n"]


@pytest.mark.parametrize("program", [["grep", "--line-buffered", "apple"], ["grep", "-e", "apple", "-e", "^#drakkar-"]])
async def test_a_filter_that_keeps_the_marker_back_is_found_at_the_start(make_pool: Pool, program: list[str]) -> None:
    """Dropped or held in a buffer: the message names both."""
    with pytest.raises(StartupError, match=r"marker line '#drakkar-0' through.*--line-buffered"):
        await make_pool(program, protocol="lines", answer="marker", start_timeout_s=0.3)


async def test_a_filter_that_can_not_work_is_found_at_the_start(make_pool: Pool) -> None:
    """It has ended before it was asked; what it said is told."""
    with pytest.raises(StartupError, match=r"exit code 2.*grep"):
        await make_pool(["grep", "-E", "("], protocol="lines")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"stdin": "a\nb"}, "several lines"),
        ({"args": ["-v"]}, "args or env, which a filter"),
        ({"binary_path": "/bin/echo"}, "the task names a program, '/bin/echo'"),
    ],
)
async def test_what_can_not_be_said_in_a_line_is_an_error_that_names_the_way_out(
    make_pool: Pool, fields: dict[str, Any], why: str
) -> None:
    """The child never hears of it, the next task is none the worse."""
    pool = await make_pool(["cat"], protocol="lines")
    outcome = await run(pool, task(**fields))
    assert isinstance(outcome, ExecutorError)
    assert outcome.kind == "protocol"
    assert why in (outcome.exception or "")
    assert "fallback_oneshot" in (outcome.exception or "")
    assert (await run(pool, task("x"))).stdout == "x\n"


async def test_with_the_fall_back_it_is_a_process_of_its_own(make_pool: Pool, events: list[Event]) -> None:
    """The children's command line with the task's arguments after it, or the task's own program."""
    pool = await make_pool(["sh", "-c", 'exec cat "$@"', "sh"], protocol="lines", fallback_oneshot=True)
    several = await run(pool, task("a\nb"))
    numbered = await run(pool, task("a\nb", args=["-n"]))
    own = await run(pool, task(None, binary_path="/bin/echo", args=["mine"]))
    assert isinstance(several, ExecutorResult)
    assert (several.stdout, several.task.args) == ("a\nb", [])
    assert numbered.stdout.split() == ["1", "a", "2", "b"]
    assert (own.stdout, own.task.binary_path) == ("mine\n", "/bin/echo")
    assert len({outcome.pid for outcome in (several, numbered, own)}) == 3
    assert "several lines" in of(TaskFellBack, events)[0].reason
    assert pool.statistics().ended == 3


async def test_a_task_that_fell_back_can_be_given_up(make_pool: Pool) -> None:
    """Its process is killed."""
    pool = await make_pool(["cat"], protocol="lines", fallback_oneshot=True)
    heard: list[object] = []
    running = pool.submit(task(None, binary_path="sleep", args=["60"]), 0, heard.append)
    running.cancel()
    await pool.close()
    assert heard == [None]
