"""Log lines of events, a module per topic as in `observe.events`. Event names of py-drakkar are kept."""

from __future__ import annotations

from drakkar_flow.observe.log.lines.cache import LINES as _CACHE
from drakkar_flow.observe.log.lines.common import Lines
from drakkar_flow.observe.log.lines.executor import LINES as _EXECUTOR
from drakkar_flow.observe.log.lines.hooks import LINES as _HOOKS
from drakkar_flow.observe.log.lines.lifecycle import LINES as _LIFECYCLE
from drakkar_flow.observe.log.lines.recorder import LINES as _RECORDER
from drakkar_flow.observe.log.lines.records import LINES as _RECORDS
from drakkar_flow.observe.log.lines.sinks import LINES as _SINKS
from drakkar_flow.observe.log.lines.source import LINES as _SOURCE
from drakkar_flow.observe.log.lines.stalls import LINES as _STALLS
from drakkar_flow.observe.log.lines.state import LINES as _STATE
from drakkar_flow.observe.log.lines.tasks import LINES as _TASKS

__all__ = ["LINES"]

LINES: Lines = {
    **_SOURCE,
    **_STATE,
    **_RECORDS,
    **_TASKS,
    **_HOOKS,
    **_SINKS,
    **_EXECUTOR,
    **_STALLS,
    **_LIFECYCLE,
    **_CACHE,
    **_RECORDER,
}
"""Log line functions by type of event. Events of the hot path have none: metrics count them."""
