"""`runtime.recovery`: off by default, on by an empty section, with one Bytewax worker only."""

from __future__ import annotations

import pytest

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.errors import ConfigError


def test_there_is_no_store_by_default() -> None:
    """The group mode stays as it is."""
    assert from_mapping({}).runtime.recovery is None


def test_an_empty_section_takes_the_defaults() -> None:
    """Directory by the flow's name, a snapshot a second, refusal when in doubt."""
    recovery = from_mapping({"runtime": {"recovery": {}}}).runtime.recovery
    assert recovery is not None
    assert recovery.model_dump() == {
        "dir": None,
        "snapshot_interval_s": 1.0,
        "backup_interval_s": 0.0,
        "partitions": 4,
        "on_lost": "fail",
        "on_incompatible": "fail",
    }


def test_several_bytewax_workers_are_refused() -> None:
    """The error names both settings."""
    with pytest.raises(ConfigError, match=r"runtime.recovery needs runtime.workers: 1"):
        from_mapping({"runtime": {"recovery": {}, "workers": 2}})


@pytest.mark.parametrize(
    "recovery", [{"dir": ""}, {"snapshot_interval_s": 0}, {"partitions": 0}, {"partitions": 65}, {"on_lost": "latest"}]
)
def test_values_that_make_no_store_are_refused(recovery: dict[str, object]) -> None:
    """With the key in the error."""
    with pytest.raises(ConfigError, match=rf"runtime.recovery.{next(iter(recovery))}"):
        from_mapping({"runtime": {"recovery": recovery}})
