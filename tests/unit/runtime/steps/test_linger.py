"""Windows wait for more records only as long as nobody waits for them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from drakkar_flow import ExecutorTask, PrecomputedResult, StreamFlow, Window
from drakkar_flow.testing import FlowRun

LANE = ("input", 0)


def _arrange(records: list[Any], _pending: Any) -> list[ExecutorTask]:
    given = PrecomputedResult()
    return [ExecutorTask(task_id=str(r.offset), source_offsets=[r.offset], precomputed=given) for r in records]


@pytest.fixture
def flow() -> StreamFlow:
    """A flow whose windows would wait an hour."""
    window = Window(size=100, linger_s=3600)
    return StreamFlow("linger").decode(int).arrange(_arrange, window=window).execute().collect().route()


def test_a_stop_does_not_wait_for_windows_to_fill(flow: StreamFlow) -> None:
    """What lingers is processed and committed at once when the flow is told to stop."""
    with FlowRun(flow, [1, 2], open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 2)
        run.control.stop()
        assert run.finish(10).committed == {LANE: 2}


def test_a_revoke_does_not_wait_for_windows_to_fill(flow: StreamFlow) -> None:
    """What lingers finishes within the drain of a revoke; afterwards windows linger again."""
    with FlowRun(flow, [1, 2], open_end=True) as run:
        run.wait_until(lambda: run.in_flight.records == 2)
        left: list[int] = []
        revoke = threading.Thread(target=lambda: left.append(run.reader.revoke(drain_s=10)))
        revoke.start()
        revoke.join(10)
        assert left == [0]
        assert not run.in_flight.draining
