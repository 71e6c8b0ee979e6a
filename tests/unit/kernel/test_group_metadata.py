"""Group metadata: the format is that of the installed client."""

from __future__ import annotations

import struct

from confluent_kafka import Consumer

from drakkar_flow.kernel.group_metadata import is_member


def test_a_consumer_that_has_not_joined_is_no_member() -> None:
    """A new client library with another format must fail here first."""
    consumer = Consumer({"bootstrap.servers": "", "group.id": "group", "log_level": 0})
    metadata = consumer.consumer_group_metadata()
    consumer.close()
    assert metadata == b"CGMDv2:" + struct.pack("=i", -1) + b"group\0" + b"\0" + b"\x01"
    assert not is_member(metadata)


def test_a_member_has_a_generation_and_an_id() -> None:
    """A consumer that left may still have one of them."""
    head = b"CGMDv2:"
    assert is_member(head + struct.pack("=i", 0) + b"group\0member\0\x01")
    assert is_member(head + struct.pack("=i", 7) + b"group\0member\0\0instance\0")
    assert not is_member(head + struct.pack("=i", 7) + b"group\0\0\x01")
    assert not is_member(head + struct.pack("=i", -1) + b"group\0member\0\x01")
    assert not is_member(b"CGMDv3:" + struct.pack("=i", 7) + b"group\0member\0\x01")
    assert not is_member(b"")
