"""The recorder of a worker, as its configuration describes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.recording import recorder_of
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from support.recorder import Noted, patient


def test_names_and_variables_that_are_not_utf_8_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are lone surrogates in Python, which neither JSON nor SQLite accepts."""
    monkeypatch.setenv("ODD", "a\udcffb")
    debug = {"enabled": True, "db_dir": str(tmp_path / "rec"), "expose_env_vars": ["ODD"]}
    config = DrakkarConfig.model_validate({"debug": debug})
    bus = Bus()
    noted = Noted(bus)
    recorder = recorder_of(config, "w-\udcff", "c-\udcff", "flow-\udcff", RuntimeGauges)
    recorder.listen(bus)
    recorder.close(30)
    assert noted.states == []
    with patient(tmp_path / "rec") as recording:
        (file,) = recording.files()
        assert file.side.worker == "w-\\udcff"
