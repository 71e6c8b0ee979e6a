"""Building blocks of Grafana dashboards: queries, panels, rows, and the JSON of a dashboard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "DATASOURCE",
    "Color",
    "Dashboard",
    "Panel",
    "Query",
    "Row",
    "Variable",
    "by_worker",
    "of",
    "quantile",
    "rate",
]

PREFIX = "drakkar_"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTED = 'job=~"$job", instance=~"$instance"'
"""Labels of the selected workers; `$instance` has the targets of the selected group and workers."""
TAG = "drakkar-flow"
COLUMNS = 24
SCHEMA_VERSION = 39
"""Of Grafana 11; newer versions migrate it when they load it."""

Kind = Literal["timeseries", "stat", "table"]
Color = Literal["green", "orange", "red", "blue"]


def of(metric: str, labels: str = "") -> str:
    """Select a metric of the selected workers; names without a prefix are the library's.

    >>> of("records_finished_total", 'status="dead"')
    'drakkar_records_finished_total{job=~"$job", instance=~"$instance", status="dead"}'
    >>> of("process_open_fds")
    'process_open_fds{job=~"$job", instance=~"$instance"}'
    """
    name = metric if metric.startswith("process_") else PREFIX + metric
    return f"{name}{{{SELECTED}{', ' if labels else ''}{labels}}}"


def rate(metric: str, labels: str = "") -> str:
    """Return the growth of a counter per second, over an interval that suits the zoom."""
    return f"rate({of(metric, labels)}[$__rate_interval])"


def quantile(q: float, histogram: str, *by: str) -> str:
    """Return a quantile of a histogram, over the selected workers together.

    >>> quantile(0.5, "executor_duration_seconds", "executor").partition(" (rate")[0]
    'histogram_quantile(0.5, sum by (le, executor)'
    """
    return f"histogram_quantile({q}, sum by ({', '.join(('le', *by))}) ({rate(f'{histogram}_bucket')}))"


def by_worker(expr: str) -> str:
    """Add the label `worker_id` to series by job and instance."""
    return f"{expr} * on (job, instance) group_left (worker_id) {of('worker_info')}"


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and the name of its series in the legend."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel; `description` says what a healthy value is.

    - `unit`: Grafana's id of the unit: `s`, `short`, `ops`, `bytes`, `percentunit`, ...
    - `steps`: colors by lower bound, from the base on; without them a stat is blue.
    - `texts`: words in place of values.
    - `columns`: titles of a table's values, in the order of the queries.
    - `only_name`: a stat shows the name of its series in place of the value.
    - `at_most`: upper end of the axis.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    at_most: float | None = None
    steps: tuple[tuple[float | None, Color], ...] = ()
    texts: tuple[tuple[int, str, Color], ...] = ()
    columns: tuple[str, ...] = ()
    only_name: bool = False

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return the panel as Grafana stores it, at a place of the grid."""
        panel: dict[str, Any] = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
            "targets": [self._target(index, query) for index, query in enumerate(self.queries)],
        }
        if self.kind == "table":
            names = {f"Value #{_letter(index)}": title for index, title in enumerate(self.columns)}
            organize = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": names}
            panel["transformations"] = [
                {"id": "merge", "options": {}},
                {"id": "organize", "options": organize},
            ]
        return panel

    def _target(self, index: int, query: Query) -> dict[str, Any]:
        instant = self.kind == "table" or self.only_name
        return {
            "refId": _letter(index),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "editorMode": "code",
            "format": "table" if self.kind == "table" else "time_series",
            "instant": instant,
            "range": not instant,
        }

    def _defaults(self) -> dict[str, Any]:
        steps = self.steps or ((None, "blue"),)
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "min": 0,
            "color": {"mode": "thresholds" if self.kind == "stat" else "palette-classic"},
            "thresholds": {
                "mode": "absolute",
                "steps": [{"color": color, "value": bound} for bound, color in steps],
            },
        }
        if self.at_most is not None:
            defaults["max"] = self.at_most
        if self.texts:
            options = {str(value): {"text": text, "color": color} for value, text, color in self.texts}
            defaults["mappings"] = [{"type": "value", "options": options}]
        if self.kind == "timeseries":
            stacking = {"mode": "normal" if self.stacked else "none", "group": "A"}
            defaults["custom"] = {"fillOpacity": 20 if self.stacked else 8, "showPoints": "never", "stacking": stacking}
        return defaults

    def _options(self) -> dict[str, Any]:
        match self.kind:
            case "timeseries":
                legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
                return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
            case "stat":
                reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
                text, graph = ("name", "none") if self.only_name else ("auto", "area")
                return {"reduceOptions": reduce, "colorMode": "value", "graphMode": graph, "textMode": text}
            case "table":
                return {"showHeader": True, "sortBy": [{"displayName": self.columns[0], "desc": True}]}


@dataclass(frozen=True)
class Row:
    """Panels below a title; a collapsed row loads nothing until it is opened."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label of a metric."""

    name: str
    label: str
    values_of: str
    """PromQL selector and label, as in `label_values`."""
    several: bool = False
    hidden: bool = False

    def json(self) -> dict[str, Any]:
        """Return the variable as Grafana stores it."""
        query = f"label_values({self.values_of})"
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": self.name},
            "refresh": 2,  # when the time range changes
            "sort": 1,
            "multi": self.several,
            "includeAll": self.several,
            "hide": 2 if self.hidden else 0,
            "current": {"text": ["All"], "value": ["$__all"]} if self.several else {},
            "options": [],
            "regex": "",
        }


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; its file is named after `uid`."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    @property
    def text(self) -> str:
        """The file's text."""
        return json.dumps(self.json(), indent=1) + "\n"

    def json(self) -> dict[str, Any]:
        """Return the dashboard as Grafana stores it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [_DATASOURCES, *(variable.json() for variable in self.variables)]},
            "annotations": {"list": [_STARTS]},
            "links": [_LINK],
            "panels": list(_laid_out(self.rows)),
        }


def _letter(index: int) -> str:
    return "ABCDEFGHIJ"[index]


def _laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Place panels from left to right, row below row, and number them in this order."""
    laid: list[dict[str, Any]] = []
    number = y = 0
    for row in rows:
        number += 1
        head: dict[str, Any] = {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "panels": [],
        }
        laid.append(head)
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            (head["panels"] if row.collapsed else laid).append(panel.json(number, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return laid


_DATASOURCES = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "multi": False,
    "includeAll": False,
    "hide": 0,
    "current": {},
    "options": [],
    "regex": "",
}
_STARTS = {
    "name": "Worker started",
    "datasource": DATASOURCE,
    "enable": True,
    "hide": False,
    "iconColor": "blue",
    "expr": f"changes({of('process_start_time_seconds')}[$__rate_interval]) > 0",
    "titleFormat": "Worker started",
    "textFormat": "{{instance}}",
}
_LINK = {
    "title": "drakkar-flow",
    "type": "dashboards",
    "tags": [TAG],
    "asDropdown": False,
    "icon": "external link",
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "",
    "url": "",
}
