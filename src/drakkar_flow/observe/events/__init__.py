"""Events, a module per topic: frozen values, emitted once on the bus; log lines, metrics and health are listeners.

Hot events carry counts: one per batch, not per record.

To add an event:

1. Write its class in the module of its topic, with its name in `__all__`, and emit it.
2. If operators should read it, add a function and a row to `LINES` in the topic's module of `observe/log/lines/`, and
   its row to `docs/observability.md`.
3. If it is counted, add a spec to `observe/metrics/metric_specs.py`, a listener to `observe/metrics/prometheus.py`, and
   the metric's row to `docs/observability.md`.
4. Add one instance to `one_of_each` in `tests/unit/observe/conftest.py`: its tests check that every event has a line
   or is listed as hot.
"""
