"""The testing kit: run a flow in this process, with everything outside of it in memory.

>>> from drakkar_flow import StreamFlow
>>> outcome = run_flow(StreamFlow("double").decode(int).map(lambda n: n * 2).route(), [1, 2, 3])
>>> outcome.values, outcome.committed
([2, 4, 6], {('input', 0): 3})
"""

from drakkar_flow.testing.clock import FakeClock
from drakkar_flow.testing.executor import Answer, ScriptedExecutor, failed, succeeded
from drakkar_flow.testing.gate import Gate
from drakkar_flow.testing.harness import CRASH, FlowHarness, run_flow
from drakkar_flow.testing.log import MemoryLog
from drakkar_flow.testing.reader import MemoryReader
from drakkar_flow.testing.receipts import Sent
from drakkar_flow.testing.run import FlowRun, Outcome
from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink, MemorySinkSettings

__all__ = [
    "CRASH",
    "Answer",
    "FakeClock",
    "FlowHarness",
    "FlowRun",
    "Gate",
    "MemoryDeadLetters",
    "MemoryLog",
    "MemoryReader",
    "MemorySink",
    "MemorySinkSettings",
    "Outcome",
    "ScriptedExecutor",
    "Sent",
    "failed",
    "run_flow",
    "succeeded",
]
