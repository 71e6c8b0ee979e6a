"""Observability: events are emitted once on the bus; log, metrics and health are listeners.

`events/` has the events by topic, `bus.py` carries them, `log/` writes lines, `metrics/` counts, `http/` serves.
"""
