"""Every test of this folder runs twice: on the testing kit, and on the real runtime with a real Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kafka_io import MakeTopic
from support.runtimes import KafkaRuntime, KitRuntime, Runtime
from support.told import told

SETTINGS = {
    "executor": {"binary_path": "sh", "max_executors": 2, "window_size": 3, "window_linger_s": 0.1, "max_retries": 3},
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Both runs of a test take place in one process, which compares what they told."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "run" in _params(item):
            item.add_marker(pytest.mark.xdist_group(_name(item)))


@pytest.fixture(scope="session")
def stories() -> dict[str, Any]:
    """What the flows of each test told on the runtime that it ran on first."""
    return {}


@pytest.fixture(params=["kit", pytest.param("kafka", marks=pytest.mark.integration)])
def run(request: pytest.FixtureRequest, stories: dict[str, Any]) -> Iterator[Callable[..., Runtime]]:
    """Starts a flow: `runtime = run(flow, partitions=2, runtime={...})`; keywords are sections of the configuration.

    When a test has run on both runtimes, its flows must have told the same on both.
    """
    made: list[KitRuntime | KafkaRuntime] = []

    def start(flow: Any, *, partitions: int = 1, **sections: Any) -> Runtime:
        settings = {**SETTINGS, **sections}
        runtime: KitRuntime | KafkaRuntime
        if request.param == "kit":
            runtime = KitRuntime(settings, partitions)
        else:
            make_topic: MakeTopic = request.getfixturevalue("make_topic")
            kafka = request.getfixturevalue("kafka")
            topics = make_topic(partitions), make_topic(1), make_topic(1)
            runtime = KafkaRuntime(kafka.bootstrap, *topics, settings)
        made.append(runtime)
        runtime.start(flow)
        return runtime

    yield start
    for runtime in made:
        runtime.close()
    if made:
        report = [told(runtime.events) for runtime in made]
        assert stories.setdefault(_name(request.node), report) == report


def _name(item: pytest.Item) -> str:
    """What both runs of a test are called."""
    return item.name.replace(_params(item)["run"], "")


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
