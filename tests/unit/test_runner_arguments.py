"""Arguments of Bytewax's runner: -r, -s and -b mean the same as the section runtime.recovery."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.runner_arguments import with_arguments
from drakkar_flow.errors import ConfigError


def arguments(directory: Path, **others: Any) -> dict[str, Any]:
    """What the runner keeps for `-r DIR -b 30`."""
    return {"recovery_config": RecoveryConfig(str(directory), timedelta(seconds=30)), **others}  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("section", [None, {"dir": "elsewhere", "on_lost": "commits"}])
def test_the_arguments_are_a_section(tmp_path: Path, section: dict[str, Any] | None) -> None:
    """They win over the file's; its other settings stay."""
    before = from_mapping({"runtime": {"recovery": section}})
    recovery = with_arguments(before, arguments(tmp_path, epoch_interval=timedelta(seconds=2))).runtime.recovery
    wanted = {"dir": str(tmp_path), "snapshot_interval_s": 2.0, "backup_interval_s": 30.0}
    on_lost = (section or {}).get("on_lost", "fail")
    assert recovery == from_mapping({"runtime": {"recovery": {**wanted, "on_lost": on_lost}}}).runtime.recovery


def test_values_that_a_file_may_not_have_are_refused(tmp_path: Path) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=r"runtime\.recovery\.snapshot_interval_s"):
        with_arguments(from_mapping({}), arguments(tmp_path, epoch_interval=timedelta(0)))


def test_several_threads_are_refused_with_a_store(tmp_path: Path) -> None:
    """Also with a store of the file."""
    with pytest.raises(ConfigError, match="3 worker threads can't share a recovery store"):
        with_arguments(from_mapping({"runtime": {"recovery": {}}}), {"workers_per_process": 3})
    assert with_arguments(from_mapping({}), {"workers_per_process": 3}).runtime.recovery is None
