"""Monitoring files under `deploy/`, made of Python: Grafana dashboards, and the alerts as a Kubernetes object."""
