"""Pytest plugin: fixtures for tests of flows, and a report of the flow for a test that failed.

pytest loads it wherever the package is installed, so no module of the library is imported before a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from drakkar_flow.testing.executor import ScriptedExecutor
    from drakkar_flow.testing.harness import FlowHarness
    from drakkar_flow.testing.sinks import MemorySink

__all__ = ["drakkar_executor", "drakkar_kafka", "drakkar_kit", "memory_sink"]

_KITS = pytest.StashKey[list["FlowHarness"]]()


@pytest.fixture
def drakkar_executor() -> ScriptedExecutor:
    """ScriptedExecutor of the flows of `drakkar_kit`, unless they are given another one."""
    from drakkar_flow.testing.executor import ScriptedExecutor

    return ScriptedExecutor()


@pytest.fixture
def memory_sink() -> Callable[..., MemorySink]:
    """Makes MemorySinks: `memory_sink("results", script=[OSError("down")])`."""
    from drakkar_flow.testing.sinks import MemorySink

    return MemorySink


@pytest.fixture
def drakkar_kit(
    request: pytest.FixtureRequest, drakkar_executor: ScriptedExecutor
) -> Iterator[Callable[..., FlowHarness]]:
    """Starts flows: `kit = drakkar_kit(flow, config=...)`, with the arguments of FlowHarness.

    They end with the test. The report of a failed test lists messages, deliveries, commits and events.
    """
    from drakkar_flow.testing.harness import FlowHarness

    kits = request.node.stash[_KITS] = []
    with ExitStack() as stack:

        def start(flow: Any, **options: Any) -> FlowHarness:
            kit = stack.enter_context(FlowHarness(flow, **{"executor": drakkar_executor, **options}))
            kits.append(kit)
            return kit

        yield start


@pytest.fixture(scope="session")
def drakkar_kafka() -> str:
    """Brokers (`bootstrap.servers`) that DRAKKAR_TEST_KAFKA names; without it the test is skipped."""
    brokers = os.environ.get("DRAKKAR_TEST_KAFKA", "")
    if not brokers:
        pytest.skip("no Kafka: set DRAKKAR_TEST_KAFKA to its bootstrap servers")
    return brokers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the report of each flow to the report of a test that failed."""
    report = yield
    if report.when == "call" and report.failed:
        for kit in item.stash.get(_KITS, []):
            report.sections.append((f"drakkar flow {kit.flow.name}", kit.report()))
    return report
