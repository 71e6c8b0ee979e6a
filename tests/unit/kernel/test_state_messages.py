"""State messages: readable keys, positions of later formats, and what does not belong there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.state_messages import (
    Position,
    StateMessageError,
    StoredPartition,
    position_key,
    read_messages,
    value_key,
)

KEYS = st.tuples(st.text(max_size=5), st.text(max_size=5))
POSITION = Position(group="g", flow="f", topic_id="t", offset=7, finished=[(9, 11), (20, 21)])


@given(st.dictionaries(KEYS, st.binary(max_size=5), max_size=5), st.dictionaries(KEYS, st.binary(max_size=5)))
def test_values_and_positions_are_read_back_by_topic(
    one: dict[tuple[str, str], bytes], other: dict[tuple[str, str], bytes]
) -> None:
    """Whatever a step or a key is called; two topics share a partition of the state topic."""
    messages = {value_key("one", key): value for key, value in one.items()}
    messages |= {value_key("other", key): value for key, value in other.items()}
    messages[position_key("one")] = POSITION.encode()
    assert read_messages(messages, ["one", "other"]) == {
        "one": StoredPartition(POSITION, one),
        "other": StoredPartition(None, other),
    }
    assert read_messages(messages, ["other"]) == {"other": StoredPartition(None, other)}


def test_messages_are_readable_in_other_tools() -> None:
    """Keys and positions are JSON."""
    assert json.loads(value_key("in", ("stateful-count", "anna"))) == ["in", "stateful-count", "anna"]
    assert json.loads(POSITION.encode()) == {
        "group": "g",
        "flow": "f",
        "topic_id": "t",
        "offset": 7,
        "finished": [[9, 11], [20, 21]],
        "format": 1,
    }


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        (b"plain", b"", "the foreign key b'plain'"),
        (b'["in"]', b"", "the foreign key"),
        (b'["in","other"]', b"", "the foreign key"),
        (position_key("in"), b"{}", "a damaged position"),
        (position_key("in"), b'{"format":1}', "a damaged position"),
        (position_key("in"), b'{"format":2,"other":1}', "a position of format 2; this version reads up to 1"),
    ],
)
def test_foreign_damaged_and_later_messages_are_refused(key: bytes, value: bytes, what: str) -> None:
    """Instead of being taken for state that is not there."""
    with pytest.raises(StateMessageError, match=what):
        read_messages({key: value}, ["in"])
