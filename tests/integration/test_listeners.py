"""Listeners of a program with a real worker: they hear its whole life, and whatever they do, records go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from drakkar_flow import KafkaSink, StreamFlow, dataflow
from drakkar_flow.events import Committed, DeadLettersWritten, DeliveriesWritten, Event, StateChanged, listens
from support.flow_run import run_flow
from support.kafka_io import Kafka, MakeTopic

pytestmark = pytest.mark.integration


class Audit:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.delivered = self.dead = 0
        self.committed = 0

    @listens(StateChanged)
    def state(self, event: StateChanged) -> None:
        """Each state."""
        self.states.append(event.state)

    @listens(DeliveriesWritten, DeadLettersWritten)
    def written(self, event: Any) -> None:
        """Both kinds of writes."""
        if isinstance(event, DeadLettersWritten):
            self.dead += event.count
        else:
            self.delivered += event.count

    @listens(Committed)
    def commit(self, event: Committed) -> None:
        """How many commits there were."""
        self.committed += 1


def test_a_worker_with_bad_listeners_does_its_work(kafka: Kafka, make_topic: MakeTopic) -> None:
    """One that notes, one that raises at everything, one that never returns from its first event."""
    audit, never = Audit(), threading.Event()

    def raising(event: Event) -> None:
        raise ValueError("no")

    def stuck(event: Event) -> None:
        never.wait()

    flow = StreamFlow("numbers").decode(int).route(KafkaSink("out"))
    inputs = [str(n).encode() for n in range(99)] + [b"no number"]
    outcome = run_flow(kafka, make_topic, dataflow(flow, listeners=[audit, raising, stuck]), inputs)
    never.set()
    assert (outcome.exit_code, outcome.committed, len(outcome.values), len(outcome.dead)) == (0, 100, 99, 1)
    assert audit.states == ["starting", "running", "draining", "stopped"]
    assert (audit.delivered, audit.dead) == (99, 1)
    assert audit.committed > 0
