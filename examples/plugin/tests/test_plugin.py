"""Both kinds pass the conformance suites of the library."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import Any

import pytest
from drakkar_example.coroutine_executor import CoroutineConfig, CoroutineExecutor
from drakkar_example.csv_sink import SPEC, CsvConfig, CsvRow, CsvSink

from drakkar_flow.plugins import ExecutorSetup, ExecutorTask
from drakkar_flow.testing.conformance import ExecutorBench, ExecutorSuite, SinkBench, SinkFeatures, SinkSuite


class CsvBench(SinkBench):
    """One file in a separate directory."""

    spec = SPEC
    features = SinkFeatures(waits=False, nul=False)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sink(self) -> CsvSink:
        return CsvSink("main", CsvConfig(path=str(self.folder / "rows.csv"), columns=["n", "text"]))

    def unreachable(self) -> CsvSink:
        return CsvSink("main", CsvConfig(path=str(self.folder), columns=["n"]))

    def payload(self, item: Any, key: bytes | str | None = None) -> CsvRow:
        return CsvRow(data=item)

    def odd(self) -> list[Any]:
        return [CsvRow(data={"n": 1, "other": 2}), CsvRow(data={"n": []}), CsvRow(data={"text": "\ud800"})]

    def read(self) -> list[dict[str, Any]]:
        with (self.folder / "rows.csv").open(newline="") as file:
            return [{"n": int(n), "text": text} for n, text in csv.reader(file)]


class TestCsvSink(SinkSuite):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> CsvBench:
        return CsvBench(tmp_path)


async def answer(task: ExecutorTask) -> str:
    """The function that the tasks of the bench call."""
    if task.stdin == "fail":
        raise ValueError("as it was asked")
    if task.stdin == "endless":
        await asyncio.Event().wait()
    return "done"


class CoroutineBench(ExecutorBench):
    """Calls of `answer`."""

    def executor(self) -> CoroutineExecutor:
        setup = ExecutorSetup("", self.slots, 60.0, frozenset({0}))
        return CoroutineExecutor(CoroutineConfig(target=f"{__name__}:answer"), setup)

    def quick(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0])

    def failing(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], stdin="fail")

    def endless(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], stdin="endless")


class TestCoroutineExecutor(ExecutorSuite):
    @pytest.fixture
    def bench(self) -> CoroutineBench:
        return CoroutineBench()
