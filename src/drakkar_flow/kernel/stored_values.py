"""Check of stored values at a start: those that the models of a flow can't read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from drakkar_flow.errors import StateError
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.state import StateCodec, UserKey, key_of

__all__ = ["UnreadableValue", "unreadable_values"]


class UnreadableValue(NamedTuple):
    """Step and key of a value, and why it can't be read."""

    step: str
    key: UserKey
    error: StateError


def unreadable_values(
    codecs: Mapping[str, StateCodec], states: Iterable[Mapping[StateKey, bytes]], now_ms: int
) -> Iterator[UnreadableValue]:
    """Yield values that can't be read: one of each version of a model is tried.

    Values that have expired at `now_ms`, a time since the epoch, are never read. Those of steps without a codec pass.

    >>> codec = StateCodec(int)
    >>> state = {("count", "anna"): codec.encode(3, now_ms=0), ("count", "otto"): b"damaged"}
    >>> [each.key for each in unreadable_values({"count": codec}, [state], now_ms=0)]
    ['otto']
    """
    tried: set[tuple[str, bytes]] = set()
    for state in states:
        for (step, key), value in state.items():
            codec = codecs.get(step)
            if codec is None or (step, codec.version_of(value)) in tried or codec.is_expired(value, now_ms):
                continue
            tried.add((step, codec.version_of(value)))
            try:
                codec.decode(value)
            except StateError as exc:
                yield UnreadableValue(step, key_of(key), exc)
