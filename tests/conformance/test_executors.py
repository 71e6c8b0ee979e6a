"""The library's executors keep every executor's promises."""

from __future__ import annotations

import sys

import pytest

from drakkar_flow import ExecutorTask
from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.config.sections.persistent import PersistentConfig
from drakkar_flow.engine.executors import make_executors
from drakkar_flow.kinds.executor import Executor
from drakkar_flow.observe.bus import Bus
from drakkar_flow.testing.conformance import ExecutorBench, ExecutorSuite

SERVE = """
import time
from drakkar_flow.worker import serve

def answer(task):
    if task.stdin == "fail":
        raise ValueError("as it was asked")
    while task.stdin == "endless":
        time.sleep(0.01)
    return "done"

serve(answer)
"""


class Programs(ExecutorBench):
    """A process per task."""

    def executor(self) -> Executor:
        return make_executors({"": ProgramConfig(binary_path="sh", max_executors=self.slots)}, Bus())

    def quick(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], args=["-c", "exit 0"])

    def failing(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], args=["-c", "exit 3"])

    def endless(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], args=["-c", "exec sleep 1000"])


class Children(ExecutorBench):
    """Long-lived children with a request at a time."""

    def executor(self) -> Executor:
        children = PersistentConfig(args=["-c", SERVE], max_in_flight_per_child=1)
        config = ProgramConfig(
            binary_path=sys.executable, mode="persistent", persistent=children, max_executors=self.slots
        )
        return make_executors({"": config}, Bus())

    def quick(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0])

    def failing(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], stdin="fail")

    def endless(self, task_id: str) -> ExecutorTask:
        return ExecutorTask(task_id=task_id, source_offsets=[0], stdin="endless")


class TestPrograms(ExecutorSuite):
    """The suite."""

    @pytest.fixture
    def bench(self) -> Programs:
        """Programs of sh."""
        return Programs()


class TestChildren(ExecutorSuite):
    """The suite."""

    @pytest.fixture
    def bench(self) -> Children:
        """Children of Python."""
        return Children()
