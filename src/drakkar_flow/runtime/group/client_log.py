"""Client log: the consumer's log lines as events, so that they are limited and counted like all lines."""

from __future__ import annotations

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.source import ClientLogged

__all__ = ["ClientLog"]


class ClientLog:
    """Logger for confluent-kafka."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def log(self, level: int, _format: str, facility: str, client: str, text: str) -> None:
        """Emit one line of librdkafka; `level` is a level of the module `logging`."""
        self._bus.emit(ClientLogged(level, facility, client, text))
