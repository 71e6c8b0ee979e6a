"""Client library of Kafka: how its clients are ended and kept quiet."""

from __future__ import annotations

import logging
import threading
from typing import Any

__all__ = ["UNSERVED", "destroy_in_background"]

UNSERVED = logging.getLogger("drakkar_flow.kafka")
"""Logger of clients that nobody polls: its lines wait for a poll, where `debug` would else flood standard error."""


def destroy_in_background(clients: list[Any]) -> None:
    """Empty the list on another thread, and so destroy the clients in it that nobody else holds; returns at once.

    For clients whose brokers went away: to destroy one may take for ever (librdkafka 2.16 sometimes waits for the
    thread of a broker that has been forgotten), and would hold up whoever does it. The thread is a daemon: it is left
    to that, and the process can end.

    >>> clients = [object()]
    >>> destroy_in_background(clients)
    """
    threading.Thread(target=clients.clear, name="drakkar-let-go", daemon=True).start()
