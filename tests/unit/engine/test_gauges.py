"""Gauges of a running flow, as they are read from its components."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from drakkar_flow.engine.gauges import read_gauges
from drakkar_flow.kernel.partition_row import encode_shard
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.testing import MemoryReader


def components(track: Track, shards: Shards | None = None) -> Any:
    """The components that gauges are read from; partition 0 of two is assigned."""
    in_flight = InFlight(100, 1_000)
    reader = MemoryReader((), in_flight, bus=Bus(), partitions=2)
    reader.assign([("input", 0)])
    return SimpleNamespace(in_flight=in_flight, reader=reader, executor=None, track=track, shards=shards)


def test_the_size_of_the_state_of_assigned_partitions_is_read() -> None:
    """A partition that has left may still have a ledger; it is not shown."""
    track = Track()
    ledgers = track.keep_state()
    for partition in (0, 1):
        ledgers.load(("input", partition), {("count", "anna"): b"123"})
    assert read_gauges(components(track), None, 0).state == {("input", 0): (1, len("countanna123"))}


def test_a_flow_without_state_has_no_such_gauges() -> None:
    """No series, instead of zeros."""
    assert read_gauges(components(Track()), None, 0).state == {}


def test_the_size_of_state_across_partitions_is_that_of_its_shards() -> None:
    """No topic has them, so theirs is empty."""
    shards = Shards(0, 2)
    shards.load(shards.own[0], encode_shard({("count", "anna"): b"123"}))
    assert read_gauges(components(Track(), shards), None, 0).state == {("", shards.own[0]): (1, len("countanna123"))}
