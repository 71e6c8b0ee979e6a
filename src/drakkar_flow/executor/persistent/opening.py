"""Opening of a session with a child. Pure."""

from __future__ import annotations

from typing import Protocol

from drakkar_flow.config.sections.persistent import PersistentConfig
from drakkar_flow.executor.persistent.codec import Codec, LineBuffer, ProtocolError
from drakkar_flow.executor.persistent.filters import MARKER, LinePerTask, LinesToMarker
from drakkar_flow.executor.persistent.frames import dialect_for
from drakkar_flow.executor.persistent.handshake import MAX_HANDSHAKE_BYTES, agree, hello

__all__ = ["FilterOpening", "HandshakeOpening", "MarkerOpening", "Opening", "Session", "opening_for"]

_MOST_IN_FLIGHT = 64  # for workers and filters if the configuration has no bound


class Session:
    """Result of an opening: the codec, and the maximum of requests in flight."""

    __slots__ = ("dialect", "max_in_flight", "name")

    def __init__(self, dialect: Codec, max_in_flight: int, name: str = "") -> None:
        self.dialect = dialect
        self.max_in_flight = max_in_flight
        self.name = name


class Opening(Protocol):
    """Sends the first bytes and waits for the answer."""

    words: bytes
    """The first bytes of the parent."""
    hint: str
    """The probable error of a child that does not answer."""

    def feed(self, data: bytes) -> tuple[Session, bytes] | None:
        """Process output of the child; after the opening returns the session and the remaining bytes.

        Raises:
            ProtocolError: if the output is invalid.
        """
        ...


def opening_for(config: PersistentConfig) -> Opening:
    """The opening for a new child."""
    limit, in_flight = config.max_frame_bytes, config.max_in_flight_per_child or _MOST_IN_FLIGHT
    if config.protocol == "worker":
        return HandshakeOpening(limit, in_flight)
    if config.answer == "marker":
        return MarkerOpening(limit, in_flight)
    return FilterOpening(limit, in_flight)


class HandshakeOpening:
    """The handshake of the protocol `drakkar-worker`."""

    hint = "it did not answer the handshake; does it speak the protocol, and flush its stdout?"

    def __init__(self, limit: int, in_flight: int) -> None:
        self.words = hello(in_flight, limit)
        self._limit = limit
        self._in_flight = in_flight
        self._said = b""

    def feed(self, data: bytes) -> tuple[Session, bytes] | None:
        """Wait for the first line."""
        self._said += data
        line, end, rest = self._said.partition(b"\n")
        if not end:
            if len(line) > MAX_HANDSHAKE_BYTES:
                raise ProtocolError(f"its first line is longer than {MAX_HANDSHAKE_BYTES} bytes")
            return None
        agreement = agree(line, self._in_flight)
        dialect = dialect_for(agreement.framing, self._limit, can_cancel="cancel" in agreement.capabilities)
        return Session(dialect, agreement.max_in_flight, agreement.name), rest


class FilterOpening:
    """A filter sends nothing before its first request: it is ready immediately."""

    words = b""
    hint = ""

    def __init__(self, limit: int, in_flight: int) -> None:
        self._conversation = Session(LinePerTask(limit), in_flight)

    def feed(self, data: bytes) -> tuple[Session, bytes] | None:
        """Accept any output: the filter is ready."""
        return self._conversation, data


class MarkerOpening:
    """A filter that passes marker line 0 through is ready, and will pass the others through."""

    words = MARKER + b"0\n"
    hint = (
        "it did not pass the marker line '#drakkar-0' through; does it drop such lines "
        "(grep: -e '^#drakkar-'), or hold its output back (grep: --line-buffered, sed: -u)?"
    )

    def __init__(self, limit: int, in_flight: int) -> None:
        self._lines = LineBuffer(MAX_HANDSHAKE_BYTES)
        self._conversation = Session(LinesToMarker(limit), in_flight)

    def feed(self, data: bytes) -> tuple[Session, bytes] | None:
        """Wait for the marker; output before it (for example a heading) is no answer."""
        marker = self.words[:-1]
        return (self._conversation, b"") if any(line == marker for line in self._lines.feed(data)) else None
