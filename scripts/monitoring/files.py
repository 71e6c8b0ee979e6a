"""Generated files under `deploy/`: the dashboards, and the alerts for the Prometheus operator."""

from __future__ import annotations

from pathlib import Path

from scripts.monitoring.overview import OVERVIEW
from scripts.monitoring.worker import WORKER

__all__ = ["ALERTS", "generated"]

ALERTS = "deploy/prometheus/alerts.yaml"
_RULES_HEAD = """\
# Scrapes the workers of kubernetes.yaml and loads the alerts, by the Prometheus operator.
# Made of deploy/prometheus/alerts.yaml by `python -m scripts.monitoring`: edit that file instead.
# kubectl apply --filename deploy/kubernetes-monitoring.yaml
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: drakkar-flow
spec:
  selector:
    matchExpressions:
      - key: app
        operator: In
        values: [search] # the label of your workers' pods
  podMetricsEndpoints:
    - port: metrics
      interval: 15s
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: drakkar-flow
spec:
"""


def generated(root: Path) -> dict[str, str]:
    """Return the texts of the generated files by their names below `root`, which has the alerts."""
    groups = (root / ALERTS).read_text().partition("\ngroups:\n")[2]
    rules = "".join(f"  {line}".rstrip() + "\n" for line in f"groups:\n{groups}".splitlines())
    return {
        **{f"deploy/grafana/dashboards/{each.uid}.json": each.text for each in (OVERVIEW, WORKER)},
        "deploy/kubernetes-monitoring.yaml": _RULES_HEAD + rules,
    }
