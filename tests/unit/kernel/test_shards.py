"""Shards: every key has one, and every shard one process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.routing import worker_of
from drakkar_flow.kernel.shards import SHARDS, owners_of_shards, shard_name, shard_of
from drakkar_flow.model.state import key_text


@given(st.text() | st.integers() | st.binary())
def test_a_key_has_one_of_64_shards(key: str | int | bytes) -> None:
    """Whatever its type."""
    assert 0 <= shard_of(key_text(key)) < SHARDS


def test_shards_of_stores_on_disk_never_change() -> None:
    """Neither the shard of a key nor the name of a shard."""
    assert [shard_of(key_text(key)) for key in ("", "anna", 7, b"7")] == [0, 55, 51, 45]
    assert [shard_name(shard) for shard in (0, 63)] == ["shard-00", "shard-63"]


@pytest.mark.parametrize("processes", range(1, 20))
def test_a_shard_belongs_to_the_process_that_bytewax_sends_its_row_to(processes: int) -> None:
    """So its row is loaded where its records go."""
    owners = owners_of_shards(processes)
    assert list(owners) == [worker_of(shard_name(shard), processes) for shard in range(SHARDS)]
