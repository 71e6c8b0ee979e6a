"""librdkafka clients: destruction in the background, and a logger for clients without a poll loop."""

from __future__ import annotations

import logging
import threading
from typing import Any

__all__ = ["UNSERVED", "destroy_in_background"]

UNSERVED = logging.getLogger("drakkar_flow.kafka")
"""Logger of clients without a poll loop. Their lines wait for a poll; without it `debug` floods standard error."""


def destroy_in_background(clients: list[Any]) -> None:
    """Empty the list on a daemon thread, which destroys clients without other references; returns at once.

    For clients whose brokers are gone: their destruction may block without limit, because librdkafka 2.16 sometimes
    waits for the thread of a removed broker. A daemon thread does not keep the process alive.

    >>> clients = [object()]
    >>> destroy_in_background(clients)
    """
    threading.Thread(target=clients.clear, name="drakkar-let-go", daemon=True).start()
