"""Group metadata of a consumer: recognises that of a member, which the brokers can check. Pure."""

from __future__ import annotations

import struct

__all__ = ["is_member"]

_MAGIC = b"CGMDv2:"  # librdkafka's serialisation; a test compares it with the installed version
_GENERATION = struct.Struct("=i")


def is_member(metadata: bytes) -> bool:
    """Return True if metadata has a generation and a member id.

    Brokers accept offsets in a transaction without both, unchecked, as from a client that uses no group. So a consumer
    that is joining, or has lost its membership, must not commit.

    >>> is_member(b"CGMDv2:" + _GENERATION.pack(3) + b"group" + bytes(1) + b"member-1" + bytes(1) + b"1")
    True
    >>> is_member(b"CGMDv2:" + _GENERATION.pack(-1) + b"group" + bytes(1) + bytes(1) + b"1")
    False
    """
    start = len(_MAGIC) + _GENERATION.size
    if not metadata.startswith(_MAGIC) or len(metadata) < start:
        return False
    (generation,) = _GENERATION.unpack_from(metadata, len(_MAGIC))
    _, _, rest = metadata[start:].partition(b"\0")
    return generation >= 0 and rest.partition(b"\0")[0] != b""
