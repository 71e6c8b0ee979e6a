"""Testing kit: runs a flow in this process, with Kafka, programs, sinks and clock in memory.

>>> from drakkar_flow import StreamFlow
>>> from drakkar_flow.testing import FlowHarness, run_flow
>>> double = StreamFlow("double").decode(int).map(lambda n: n * 2).route()
>>> outcome = run_flow(double, [1, 2, 3])
>>> outcome.values, outcome.committed
([2, 4, 6], {('input', 0): 3})
>>> with FlowHarness(double) as kit:
...     kit.send(4)
...     kit.wait_acknowledged()
...     kit.values
Sent(topic='input', partition=0, offset=0)
[8]

The names are loaded when first used: pytest imports this package for its plugin, in foreign test suites too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drakkar_flow.testing.ack_log import Sent
    from drakkar_flow.testing.clock import FakeClock
    from drakkar_flow.testing.executor import Answer, ScriptedExecutor, failed, succeeded
    from drakkar_flow.testing.gate import Gate
    from drakkar_flow.testing.harness import FlowHarness
    from drakkar_flow.testing.load import load_flow
    from drakkar_flow.testing.log import MemoryLog
    from drakkar_flow.testing.outcome import Outcome
    from drakkar_flow.testing.reader import MemoryReader
    from drakkar_flow.testing.run import FlowRun
    from drakkar_flow.testing.runner import CRASH, run_flow
    from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink, MemorySinkSettings

_HOMES = {
    "CRASH": "runner",
    "Answer": "executor",
    "FakeClock": "clock",
    "FlowHarness": "harness",
    "FlowRun": "run",
    "Gate": "gate",
    "MemoryDeadLetters": "sinks",
    "MemoryLog": "log",
    "MemoryReader": "reader",
    "MemorySink": "sinks",
    "MemorySinkSettings": "sinks",
    "Outcome": "outcome",
    "ScriptedExecutor": "executor",
    "Sent": "ack_log",
    "failed": "executor",
    "load_flow": "load",
    "run_flow": "runner",
    "succeeded": "executor",
}

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
    "load_flow",
    "run_flow",
    "succeeded",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
