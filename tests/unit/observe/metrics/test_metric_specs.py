"""The metrics as dashboards know them: renaming one, or its labels or buckets, breaks somebody's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.observe.metrics.metric_specs import METRICS
from drakkar_flow.observe.metrics.prometheus import Metrics
from support.py_drakkar import METRICS_OF_PY_DRAKKAR, NamedMetric

LANE = ("in", 3)
PAGE = Path(__file__).resolve().parents[4] / "docs" / "observability.md"


@pytest.fixture
def served(one_of_each: list[Event]) -> dict[str, Metric]:
    """Everything a worker serves after one event of each type, by name."""
    registry = CollectorRegistry()
    metrics, bus = Metrics(registry), Bus()
    metrics.listen(bus)
    metrics.describe_worker(worker_id="w", version="1", consumer_group="g")
    by_partition = RuntimeGauges(
        queued={LANE: 1}, pending={LANE: 1}, lag={LANE: 1}, oldest_s={LANE: 1.0}, state={LANE: (1, 9)}
    )
    metrics.watch(lambda: by_partition)
    for event in one_of_each:
        bus.emit(event)
    return {_name(family): family for family in registry.collect()}


def _name(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _buckets(family: Metric) -> list[float]:
    bounds = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
    return sorted(bounds - {float("inf")})


def _labels(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


@pytest.mark.parametrize("wanted", METRICS_OF_PY_DRAKKAR, ids=lambda it: it.name)
def test_what_py_drakkar_has_is_here_by_its_name_labels_and_buckets(
    served: dict[str, Metric], wanted: NamedMetric
) -> None:
    """Where it has `partition` there is `topic` beside it, and a histogram may be finer: nothing else differs."""
    family = served[wanted.name]
    assert _labels(family) == wanted.labels
    assert wanted.buckets <= set(_buckets(family))


def _rows(served: dict[str, Metric]) -> Iterator[str]:
    for family in served.values():
        key = family.name.removeprefix("drakkar_")
        if key in METRICS:
            spec = METRICS[key]
            assert (family.type, _labels(family) - set(spec.labels)) == (spec.type, set()), key
            labels = ", ".join(spec.labels)
            buckets = "; buckets " + " ".join(map(str, spec.buckets)) if spec.buckets else ""
            yield f"| `{_name(family)}` | {spec.type} | {labels} | {spec.help}{buckets} |"
        else:
            labels = ", ".join(sorted(_labels(family)))
            yield f"| `{_name(family)}` | {family.type} | {labels} | {family.documentation} |"


def test_the_page_lists_every_metric_with_type_labels_and_buckets(served: dict[str, Metric]) -> None:
    """The table of docs/observability.md is what a worker serves, no more and no less."""
    page = PAGE.read_text().partition("## Log lines")[0]
    on_page = [line for line in page.splitlines() if line.startswith("| `drakkar_")]
    assert sorted(on_page) == sorted(_rows(served))
    assert len(on_page) == len(METRICS) + 2
