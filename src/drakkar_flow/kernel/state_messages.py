"""State messages: keyed state and position of a partition as messages of a compacted topic. Pure.

Partition p of the state topic has the messages of partition p of every source topic:

    ["clicks","stateful-count","anna"]   a value, as its codec wrote it; a tombstone deletes it
    ["clicks","position"]                the position of the partition: offset and finished ranges, as JSON
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from drakkar_flow.kernel.partition_row import StateKey

__all__ = [
    "POSITION_FORMAT",
    "Position",
    "StateMessageError",
    "StoredPartition",
    "position_key",
    "read_messages",
    "value_key",
]

POSITION_FORMAT = 1
"""Version of the format of positions; a position of a later version is refused."""

_POSITION = "position"


class StateMessageError(ValueError):
    """A message that can't be read: damaged, foreign, or of a later format."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Position of a partition: the first offset that is not finished, and every range finished beyond it.

    `topic_id` is the id of the source topic (empty: the brokers have no ids). `group` and `flow` are the owners of the
    state topic.
    """

    group: str
    flow: str
    topic_id: str
    offset: int
    finished: list[tuple[int, int]] = []
    format: int = POSITION_FORMAT

    def encode(self) -> bytes:
        """Write the position as JSON."""
        return _encode(self)


class StoredPartition(NamedTuple):
    """Contents of the state topic for one source partition; `position` is None if no transaction has written one."""

    position: Position | None
    state: dict[StateKey, bytes]


class _Format(msgspec.Struct):
    format: int


_encode = msgspec.json.Encoder().encode
_decode_key = msgspec.json.Decoder(list[str]).decode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode_position = msgspec.json.Decoder(Position).decode


def value_key(topic: str, key: StateKey) -> bytes:
    """Return the key of the message of a value.

    >>> value_key("clicks", ("stateful-count", "anna"))
    b'["clicks","stateful-count","anna"]'
    """
    return _encode((topic, *key))


def position_key(topic: str) -> bytes:
    """Return the key of the message of a position.

    >>> position_key("clicks")
    b'["clicks","position"]'
    """
    return _encode((topic, _POSITION))


def read_messages(messages: Mapping[bytes, bytes], topics: Iterable[str] | None = None) -> dict[str, StoredPartition]:
    """Read the newest message of each key of one partition; returns the contents by source topic.

    With `topics` messages of others are ignored.

    >>> position = Position(group="g", flow="f", topic_id="t", offset=7)
    >>> key = value_key("in", ("count", "anna"))
    >>> read_messages({position_key("in"): position.encode(), key: b"3"}, ["in"])["in"].state
    {('count', 'anna'): b'3'}

    Raises:
        StateMessageError: a message is damaged, foreign, or of a later format.
    """
    states: dict[str, dict[StateKey, bytes]] = {topic: {} for topic in topics or ()}
    positions: dict[str, Position] = {}
    for key, value in messages.items():
        try:
            found = _decode_key(key)
        except msgspec.MsgspecError as exc:
            raise StateMessageError(f"a message with the foreign key {key[:80]!r}: {exc}") from exc
        if len(found) not in (2, 3) or (len(found) == 2 and found[1] != _POSITION):
            raise StateMessageError(f"a message with the foreign key {key[:80]!r}")
        state = states.get(found[0]) if topics is not None else states.setdefault(found[0], {})
        if state is None:
            continue
        if len(found) == 3:
            state[found[1], found[2]] = value
        else:
            positions[found[0]] = _position(value)
    return {topic: StoredPartition(positions.get(topic), state) for topic, state in states.items()}


def _position(value: bytes) -> Position:
    try:
        version = _decode_format(value).format
        if version > POSITION_FORMAT:
            raise StateMessageError(f"a position of format {version}; this version reads up to {POSITION_FORMAT}")
        return _decode_position(value)
    except msgspec.MsgspecError as exc:
        raise StateMessageError(f"a damaged position: {exc}") from exc
