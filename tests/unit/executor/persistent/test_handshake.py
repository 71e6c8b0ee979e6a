"""Agreeing with a child, or not."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.executor.persistent.codec import ProtocolError
from drakkar_flow.executor.persistent.handshake import Agreement, agree, hello


def test_the_parent_offers_what_it_can() -> None:
    """One JSON line with versions, framings and bounds."""
    offer = hello(max_in_flight=8, max_frame_bytes=1000)
    assert offer.endswith(b"\n")
    assert json.loads(offer) == {
        "type": "hello",
        "protocol": "drakkar-worker",
        "versions": [1],
        "framings": ["json-lines", "length-prefixed"],
        "max_in_flight": 8,
        "max_frame_bytes": 1000,
    }


def test_a_child_that_says_the_least_is_asked_one_by_one_in_json_lines() -> None:
    """Everything but type and version may be left out; what is not known is ignored."""
    assert agree(b'{"type":"ready","version":1}', 8) == Agreement("json-lines", 1, frozenset(), "")
    assert agree(b'{"type":"ready","version":1,"colour":"blue"}', 8) == Agreement()


def test_a_child_says_what_it_can() -> None:
    """It never gets more than it was offered."""
    said = {"framing": "length-prefixed", "max_in_flight": 99, "capabilities": ["cancel"], "name": "w"}
    line = json.dumps({"type": "ready", "version": 1, **said}).encode()
    assert agree(line, 8) == Agreement("length-prefixed", 8, frozenset({"cancel"}), "w")


REFUSALS = {
    b'{"type":"refused","reason":"no licence"}': "no licence",
    b'{"type":"refused"}': "no reason given",
    b'{"type":"ready","version":2}': "version 2",
    b'{"type":"ready","version":1,"max_in_flight":0}': "less than one",
    b'{"type":"ready","version":1,"framing":"smoke"}': "not the protocol's",
    b"Loading the model...": "Loading the model",
    b"\xff": "protocol: lines",
}


@pytest.mark.parametrize("line", REFUSALS)
def test_what_is_no_agreement_says_why(line: bytes) -> None:
    """The message helps the child's author."""
    with pytest.raises(ProtocolError, match=REFUSALS[line]):
        agree(line, 8)


@given(st.binary(max_size=100))
def test_any_first_line_is_an_agreement_or_breaks_the_protocol(line: bytes) -> None:
    """Nothing else comes out."""
    with suppress(ProtocolError):
        agree(line, 8)
