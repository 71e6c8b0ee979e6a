"""Handshake: parent and child negotiate version, framing and number of requests in flight. Pure."""

from __future__ import annotations

import msgspec

from drakkar_flow.executor.persistent.codec import ProtocolError, shown
from drakkar_flow.executor.persistent.frames import Framing

__all__ = ["MAX_HANDSHAKE_BYTES", "VERSION", "Agreement", "agree", "hello"]

VERSION = 1
MAX_HANDSHAKE_BYTES = 64 * 1024
_PROTOCOL = "drakkar-worker"


class Agreement(msgspec.Struct, frozen=True):
    """Capabilities of a child, within the offered ones."""

    framing: Framing = "json-lines"
    max_in_flight: int = 1
    capabilities: frozenset[str] = frozenset()
    name: str = ""


class _Ready(msgspec.Struct, tag_field="type", tag="ready"):
    version: int
    framing: Framing = "json-lines"
    max_in_flight: int = 1
    capabilities: list[str] = []
    name: str = ""


class _Refused(msgspec.Struct, tag_field="type", tag="refused"):
    reason: str = ""


_decode = msgspec.json.Decoder(_Ready | _Refused).decode


def hello(max_in_flight: int, max_frame_bytes: int) -> bytes:
    """The parent's line, the first on a child's stdin."""
    offer: dict[str, object] = {
        "type": "hello",
        "protocol": _PROTOCOL,
        "versions": [VERSION],
        "framings": ["json-lines", "length-prefixed"],
        "max_in_flight": max_in_flight,
        "max_frame_bytes": max_frame_bytes,
    }
    return msgspec.json.encode(offer) + b"\n"


def agree(line: bytes, offered_in_flight: int) -> Agreement:
    """Read the child's line, the first on its stdout.

    >>> agree(b'{"type":"ready","version":1,"max_in_flight":8}', offered_in_flight=4).max_in_flight
    4

    Raises:
        ProtocolError: if it refuses, speaks another version, or sends another line.
    """
    try:
        said = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ProtocolError(
            f"its first line is not the protocol's ready or refused ({exc}): {shown(line)}; "
            "a program without the protocol needs protocol: lines"
        ) from exc
    if isinstance(said, _Refused):
        raise ProtocolError(f"it refused the handshake: {said.reason or 'no reason given'}")
    if said.version != VERSION:
        raise ProtocolError(f"it speaks version {said.version} of the protocol, only {VERSION} was offered")
    if said.max_in_flight < 1:
        raise ProtocolError(f"it wants {said.max_in_flight} requests in flight, which is less than one")
    in_flight = min(said.max_in_flight, offered_in_flight)
    return Agreement(said.framing, in_flight, frozenset(said.capabilities), said.name)
