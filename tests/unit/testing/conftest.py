"""Fixtures of the tests of the kit."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow.testing import FlowHarness


@pytest.fixture
def eager_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows have finished the records they read again before the test goes on."""
    restart = FlowHarness.restart

    def until_finished(kit: FlowHarness, *args: Any, **kwargs: Any) -> None:
        restart(kit, *args, **kwargs)
        kit.wait_acknowledged()

    monkeypatch.setattr(FlowHarness, "restart", until_finished)
