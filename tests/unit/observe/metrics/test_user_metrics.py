"""Metrics that a handler brings along are found and served with ours."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest

from drakkar_flow.errors import StartupError
from drakkar_flow.observe.metrics.prometheus import Metrics, user_metrics


def own(registry: CollectorRegistry | None) -> type:
    """A handler class with metrics, some of them not for others."""

    class Base:
        inherited = Counter("files_seen", "Files seen", registry=registry)
        replaced = Counter("old_name", "Overridden below", registry=registry)

    class Handler(Base):
        depth = Gauge("depth", "Depth", ["kind"], registry=registry)
        _private = Counter("private", "Not for others", registry=registry)
        replaced = None  # type: ignore[assignment]  # wrong on purpose
        limit = 3

    return Handler


@pytest.mark.parametrize("as_instance", [True, False])
def test_user_metrics_are_found_through_the_classes(as_instance: bool) -> None:
    """Inherited metrics count, private and overridden ones don't, and an instance is as good as its class."""
    handler = own(None)
    found = user_metrics(handler() if as_instance else handler)
    assert sorted(found) == ["depth", "inherited"]


@pytest.mark.parametrize("times", [1, 2])
def test_user_metrics_are_served_with_ours(times: int) -> None:
    """Adding them once or twice puts them on the page."""
    metrics = Metrics(CollectorRegistry())
    handler = own(None)
    for _ in range(times):
        found = metrics.add_user_metrics(handler)
    inherited: Any = found["inherited"]
    inherited.inc(3)
    assert metrics.registry.get_sample_value("files_seen_total") == 3


def test_user_metrics_that_live_in_our_registry_already_are_left_there() -> None:
    """A host that hands its own registry in may have made its metrics there."""
    metrics = Metrics(CollectorRegistry())
    handler = own(metrics.registry)
    assert sorted(metrics.add_user_metrics(handler)) == ["depth", "inherited"]


def test_a_user_metric_with_a_name_of_ours_is_refused() -> None:
    """Two metrics of one name would make the page unreadable; the problem names the attribute."""
    metrics = Metrics(CollectorRegistry())

    class Handler:
        mine = Counter("drakkar_task_retries", "Another thing", registry=None)

    with pytest.raises(StartupError, match=r"Handler\.mine.*drakkar_task_retries.*rename") as caught:
        metrics.add_user_metrics(Handler)
    assert caught.value.exit_code == 2


def test_metrics_of_any_module_are_served_once() -> None:
    """Those of the default registry, also when they are the handler's; names of ours are left out there."""
    module = Counter("scans_of_a_module", "Scans")
    ours = Gauge("drakkar_state_of_another", "Theirs")

    class Handler:
        mine = Counter("scans_of_a_handler", "Scans")

    try:
        metrics = Metrics()
        metrics.add_user_metrics(Handler)
        module.inc(2)
        page = generate_latest(metrics.registry).decode()
        assert page.count("\nscans_of_a_module_total 2.0") == 1
        assert page.count("\nscans_of_a_handler_total 0.0") == 1
        assert "process_start_time_seconds" in page
        assert "drakkar_state_of_another" not in page
    finally:
        for metric in (module, ours, Handler.mine):
            REGISTRY.unregister(metric)
