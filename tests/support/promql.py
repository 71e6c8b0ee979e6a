"""Names in PromQL: the metrics of an expression, and the labels that it asks of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from prometheus_client import REGISTRY

from drakkar_flow.observe.metrics.metric_specs import METRICS

__all__ = ["SERVED", "TARGET", "Names", "names_in", "plain"]

TARGET = {"job", "instance"}
"""Labels that Prometheus adds to each series."""
_METRIC = re.compile(r"\b((?:drakkar_|process_|job_group:)[\w:]+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHER = re.compile(r"(\w+)\s*[=!]~?")


class Names(NamedTuple):
    """Metrics with the labels of their selectors, and the labels by which series are grouped and joined."""

    metrics: dict[str, set[str]]
    grouping: set[str]


def names_in(expr: str) -> Names:
    """Return the names in an expression.

    >>> names_in('sum by (topic) (drakkar_consumer_lag{job=~"$job"}) / on () process_open_fds')
    Names(metrics={'drakkar_consumer_lag': {'job'}, 'process_open_fds': set()}, grouping={'topic'})
    """
    metrics: dict[str, set[str]] = {}
    for name, selector in _METRIC.findall(_GROUPING.sub("", expr)):
        metrics.setdefault(name, set()).update(_MATCHER.findall(selector))
    grouping = {label for group in _GROUPING.findall(expr) for label in re.findall(r"\w+", group)}
    return Names(metrics, grouping)


def plain(expr: str) -> str:
    """Put values in the place of Grafana's variables.

    >>> plain('rate(x{job=~"$job"}[$__rate_interval])')
    'rate(x{job=~".*"}[1m])'
    """
    return re.sub(r"\$\w+", ".*", expr.replace("$__rate_interval", "1m"))


def _served() -> dict[str, set[str]]:
    names = {
        "drakkar_state": {"drakkar_state"},
        "drakkar_worker_info": {"consumer_group", "version", "worker_id"},
        **{family.name: set[str]() for family in REGISTRY.collect() if family.type == "gauge"},
        **{f"{family.name}_total": set[str]() for family in REGISTRY.collect() if family.type == "counter"},
    }
    for name, spec in METRICS.items():
        labels = set(spec.labels)
        match spec.type:
            case "counter":
                names[f"drakkar_{name}_total"] = labels
            case "gauge":
                names[f"drakkar_{name}"] = labels
            case "histogram":
                names[f"drakkar_{name}_bucket"] = labels | {"le"}
                names[f"drakkar_{name}_sum"] = names[f"drakkar_{name}_count"] = labels
    return names


SERVED = _served()
"""Series that a worker serves, each with its labels."""
