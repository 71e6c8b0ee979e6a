"""The metrics page answers while records flow, which is when it is looked at."""

from __future__ import annotations

import pytest

from support.scene import Scene

pytestmark = pytest.mark.integration


def test_scrapes_are_answered_under_load_and_lag_ends_at_zero(scene: Scene) -> None:
    """Twenty scrapes in the middle of the stream; when all is committed, no partition lags."""
    worker = scene.start("precomputed")
    with scene.feeding() as feeder:
        worker.until(lambda: sum(scene.committed().values()) > 100, "it committed")
        for _ in range(20):
            assert worker.metric("drakkar_messages_consumed_total")
    scene.until_finished()
    assert worker.metric("drakkar_records_finished_total") == feeder.count
    worker.until(lambda: worker.metric("drakkar_consumer_lag") == 0, "the lag was gone")
    assert worker.terminate() == 0
