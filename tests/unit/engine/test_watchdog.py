"""The watchdog, driven by a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.build import build_parts
from drakkar_flow.engine.watchdog import Watchdog
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.nodes import SinkRef
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered, Stalled, StallEnded
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.testing import MemoryReader
from support.until import until

CONFIG = {"sinks": {"kafka": {"out": {"topic": "out"}}}, "runtime": {"stuck_after_s": 10, "blocked_after_s": 5}}
FLOW = StreamFlow("watched").arrange(lambda _records, _pending: []).execute().collect().route(SinkRef("kafka", "out"))


class Scene:
    """Parts without a flow that runs: what moves and what does not is the test's choice."""

    def __init__(self, values: int = 0) -> None:
        self.events: list[Event] = []
        bus, self.loop_thread = Bus(), EventLoopThread()
        for kind in (Stalled, StallEnded, Idled, LoopAnswered):
            bus.listen(kind, self.events.append)
        made = build_parts(FLOW, from_mapping(CONFIG), bus, self.loop_thread, lambda: None)
        self.reader = MemoryReader(range(values), made.in_flight)
        self.reader.start()
        self.components: Components = replace(made, reader=self.reader)
        self.dog = Watchdog(self.components)
        self.now = 0.0
        self.loop_thread.open()

    def look(self, seconds: int = 1, *, answered: bool = True) -> None:
        """Let seconds pass and look after each."""
        for _ in range(seconds):
            self.now += 1.0
            before = len(self.told(LoopAnswered))
            self.dog.look(self.now)
            if answered:
                until(lambda before=before: len(self.told(LoopAnswered)) > before, what="the loop to answer")  # type: ignore[misc]  # mypy knows no lambda with a default here

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of a type."""
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Parts with three records to read."""
    made = Scene(3)
    yield made
    made.loop_thread.close(10)


def test_a_partition_is_told_once_when_it_stalls_and_once_when_it_moves(scene: Scene) -> None:
    """Its oldest offset and what it waits for are in the event; the stacks of all threads follow."""
    (records,) = scene.reader.pop(9, 0, 1)
    scene.look(10)
    assert scene.told(Stalled) == []
    scene.look(5)
    (stalled,) = scene.told(Stalled)
    assert (stalled.what, stalled.topic_partition, stalled.offset, stalled.for_s) == (
        "partition",
        ("input", 0),
        0,
        10.0,
    )
    assert stalled.waits_for == "the engine"
    assert "loop thread" in dict(stalled.stacks)
    assert scene.dog.health == 2
    scene.components.in_flight.release((records[0].topic_partition, records[0].epoch), 1, records[0].size)
    scene.look(2)
    assert scene.told(StallEnded) == [StallEnded("partition", 15.0, ("input", 0))]
    assert scene.dog.health == 0


def test_a_partition_whose_records_or_tasks_end_is_not_stalled(scene: Scene) -> None:
    """A window of many long tasks finishes no record for long, but its tasks end."""
    scene.reader.pop(9, 0, 1)
    for count in range(30):
        scene.components.pending.ended["input", 0] = count
        scene.look()
    assert scene.told(Stalled) == []


def test_nothing_in_flight_is_nothing_stalled(scene: Scene) -> None:
    """Records that were not handed out yet don't make a partition stall."""
    scene.look(30)
    assert scene.told(Stalled) == []


def test_a_loop_that_is_blocked_is_told_with_the_line_that_blocks_it(scene: Scene) -> None:
    """The answer that comes late says how late, and the next look that the stall is over."""
    entered, gate = threading.Event(), threading.Event()

    def blocks_the_loop() -> None:
        entered.set()
        gate.wait(60)

    scene.look()
    scene.loop_thread.post(blocks_the_loop)
    assert entered.wait(20)
    scene.look(7, answered=False)
    (stalled,) = scene.told(Stalled)
    assert (stalled.what, stalled.for_s) == ("loop", 5.0)
    assert "blocks_the_loop" in dict(stalled.stacks)["loop thread"]
    assert scene.dog.health == 2
    assert scene.dog.heartbeats["loop"] >= 5.0
    gate.set()
    until(lambda: len(scene.told(LoopAnswered)) == 2, what="the late answer")
    scene.look()
    assert [event.what for event in scene.told(StallEnded)] == ["loop"]


def test_a_partition_that_stalls_behind_a_blocked_loop_waits_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop can't be asked what the partition waits for, so that is the answer."""
    monkeypatch.setattr("drakkar_flow.engine.watchdog.ASK_S", 0.01)
    gate = threading.Event()
    scene.reader.pop(9, 0, 1)
    scene.loop_thread.post(gate.wait, 60)
    scene.look(12, answered=False)
    gate.set()
    assert {event.what: event.waits_for for event in scene.told(Stalled)} == {
        "loop": "",
        "partition": "the event loop",
    }


def test_an_engine_that_does_not_come_by_is_told_with_its_stack(scene: Scene) -> None:
    """Each of its threads is looked at, for others may go on."""
    turns = scene.components.control.turns
    turns[threading.get_ident()], turns[1] = 1, 1
    for _ in range(7):
        turns[1] += 1
        scene.look()
    (stalled,) = scene.told(Stalled)
    assert stalled.what == "engine"
    assert "test_an_engine_that_does_not_come_by" in dict(stalled.stacks)["engine thread"]


def test_slots_are_idle_while_records_wait_and_the_consumer_while_none_do(scene: Scene) -> None:
    """Free slots count only while something could use them; the consumer only when all is done."""
    scene.dog._looked_at = 0.0
    scene.look()
    assert scene.told(Idled) == [Idled(slots_s=4.0, consumer_s=0.0)]
    (records,) = scene.reader.pop(9, 0, 1)
    scene.look()
    assert len(scene.told(Idled)) == 1
    scene.components.in_flight.release(
        (records[0].topic_partition, records[0].epoch), 3, sum(record.size for record in records)
    )
    scene.look()
    assert scene.told(Idled)[1:] == [Idled(slots_s=0.0, consumer_s=1.0)]
