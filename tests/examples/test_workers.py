"""The workers that the protocol's page shows are workers, and answer what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.base import run
from drakkar_flow.executor.persistent.pool import PersistentExecutor
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.testing.worker_check import check_worker
from support.session import HELLO, Session

ROOT = Path(__file__).parents[2]
WORKERS = ROOT / "examples" / "workers"
PAGE = (ROOT / "docs" / "worker-protocol.md").read_text()


@pytest.fixture
def anyio_backend() -> str:
    """The executor lives on asyncio."""
    return "asyncio"


@pytest.fixture(params=sorted(path.name for path in WORKERS.iterdir() if path.suffix in {".py", ".sh", ".c"}))
def command(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of each example; the C one is built."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    path = WORKERS / request.param
    if path.suffix == ".py":
        return [sys.executable, str(path)]
    if path.suffix == ".sh":
        return ["sh", str(path)]
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = tmp_path / "worker"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", program, path], check=True)
    return [str(program)]


def test_an_example_keeps_the_protocol(command: list[str]) -> None:
    """All that `drakkar-flow worker check` looks at."""
    assert "it ends with 0 when its stdin ends" in list(check_worker(command))


def test_an_example_answers_what_it_says(command: list[str]) -> None:
    """Capitals, or the load of the machine."""
    with Session(*command) as child:
        code, stdout, stderr = child.answer_to(1, 'a "b"\n')
        assert (code, stderr) == (0, "")
        if command[0] == "sh":
            assert re.fullmatch(r"\d+\.\d\d", stdout)
        else:
            assert stdout in ('A "B"\n', b'A "B"\n')


@pytest.mark.anyio
async def test_the_executor_talks_with_an_example(command: list[str]) -> None:
    """A hundred tasks at once over two children, each answered with its own."""
    settings = {"args": command[1:], "children": 2}
    config = ExecutorConfig(binary_path=command[0], mode="persistent", persistent=settings)
    pool = PersistentExecutor(config, Bus())
    await pool.start()
    tasks = [ExecutorTask(task_id=f"{n}", source_offsets=[n], stdin=f"ä{n}\n" * n) for n in range(100)]
    try:
        outcomes = await asyncio.gather(*(run(pool, task) for task in tasks))
    finally:
        await pool.close()
    answers = [outcome.stdout for outcome in outcomes if isinstance(outcome, ExecutorResult)]
    assert len(answers) == 100
    if command[0] != "sh":
        assert [answer.lower() for answer in answers] == [task.stdin for task in tasks]


def test_every_example_is_on_the_page() -> None:
    """And the three lines on it are the helper's."""
    assert [path.name for path in WORKERS.iterdir() if path.suffix and f"workers/{path.name})" not in PAGE] == []
    block = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    with Session.with_script(block) as child:
        assert child.answer_to(1, "a") == (0, "A", "")


def test_the_frames_on_the_page_are_frames() -> None:
    """Each line is JSON; the greeting is the one that parents send, but for its numbers."""
    lines = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    frames = [json.loads(line) for line in lines]
    assert [frame.get("type") for frame in frames] == ["hello", "ready", "task", None, "progress", "cancel"]
    assert set(frames[0]) == set(HELLO)


def test_the_command_on_the_page_works() -> None:
    """From the repository's root."""
    line = re.findall(r"```sh\ndrakkar-flow (.*?)\n```", PAGE)[0].replace("python ", f"{sys.executable} ")
    run = [sys.executable, "-c", "from drakkar_flow.cli.main import main; main()", *shlex.split(line)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(run, cwd=ROOT, env=environment, check=True, capture_output=True)


def test_the_filter_on_the_page_passes_its_markers_through() -> None:
    """Lines that match come out before the marker, others don't, line by line."""
    filter_line = re.findall(r"`(grep -a --line-buffered -e PATTERN[^`]*)`", PAGE)[0].replace("PATTERN", "b")
    with subprocess.Popen(
        shlex.split(filter_line), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("abc\n#drakkar-1\nxyz\n#drakkar-2\n")
        child.stdin.flush()
        assert [child.stdout.readline() for _ in range(3)] == ["abc\n", "#drakkar-1\n", "#drakkar-2\n"]
        child.stdin.close()
