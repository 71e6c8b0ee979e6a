"""Conformance suites: pytest classes that every sink and executor passes, the library's and those of plug-ins.

Only this package imports pytest. docs/plugins.md shows a test module that uses it.
"""

from __future__ import annotations

from drakkar_flow.testing.conformance.delivering import Delivered, deliver
from drakkar_flow.testing.conformance.executors import ExecutorBench, ExecutorSuite
from drakkar_flow.testing.conformance.sinks import Item, SinkBench, SinkFeatures, SinkSuite, items

__all__ = [
    "Delivered",
    "ExecutorBench",
    "ExecutorSuite",
    "Item",
    "SinkBench",
    "SinkFeatures",
    "SinkSuite",
    "deliver",
    "items",
]
