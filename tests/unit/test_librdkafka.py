"""Clients that are let go."""

from __future__ import annotations

import threading

from drakkar_flow.librdkafka import destroy_in_background


class Client:
    """Says which thread destroyed it."""

    def __init__(self, destroyed_by: list[str], gone: threading.Event) -> None:
        self.destroyed_by = destroyed_by
        self.gone = gone

    def __del__(self) -> None:
        self.destroyed_by.append(threading.current_thread().name)
        self.gone.set()


def test_a_client_that_is_let_go_is_destroyed_on_another_thread() -> None:
    """So that whoever lets it go is not held up, should that take for ever."""
    destroyed_by, gone = list[str](), threading.Event()
    clients = [Client(destroyed_by, gone)]

    destroy_in_background(clients)

    assert gone.wait(30)
    assert destroyed_by == ["drakkar-let-go"]
    assert clients == []
