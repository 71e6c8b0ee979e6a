"""Listeners of a program: they hear what they ask for, on threads of their own, and harm nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from drakkar_flow.errors import FlowArgumentError
from drakkar_flow.events import Committed, Event, FlowFailed, ListenerFailed, ListenerLagged, StateChanged, listens
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.listeners import Listener, Listeners

RUNNING, FAILED = StateChanged("running"), FlowFailed("boom")
PATIENCE_S = 10.0


def told(*listeners: Listener, events: tuple[Event, ...] = (RUNNING, FAILED)) -> list[Event]:
    """Emit events with the listeners, wait until they have heard them; what they made happen themselves."""
    bus, reports = Bus(), list[Event]()
    bus.listen(ListenerFailed, reports.append)
    bus.listen(ListenerLagged, reports.append)
    hub = Listeners(listeners)
    hub.listen(bus)
    for event in events:
        bus.emit(event)
    hub.close(PATIENCE_S)
    return reports


def test_a_function_hears_every_event_in_order_on_a_thread_of_its_own() -> None:
    """Never on the thread that emits."""
    heard: list[Any] = []
    assert told(lambda event: heard.append((event, threading.current_thread().name))) == []
    assert [event for event, _ in heard] == [RUNNING, FAILED]
    assert {name[:9] for _, name in heard} == {"listener-"}


def test_marks_choose_the_events() -> None:
    """Of functions and of methods, which may hear several types, inherited ones too."""
    heard: list[tuple[str, Event]] = []

    @listens(FlowFailed)
    def function(event: FlowFailed) -> None:
        heard.append(("function", event))

    class Base:
        @listens(StateChanged, Committed)
        def state(self, event: Event) -> None:
            heard.append(("method", event))

    class Audit(Base):
        @listens(StateChanged)
        def again(self, event: Event) -> None:
            heard.append(("again", event))

        def helper(self) -> None:
            """Not marked."""

    assert told(function, Audit()) == []
    assert sorted(name for name, _ in heard) == ["again", "function", "method"]


def test_a_listener_that_raises_keeps_nobody_from_hearing() -> None:
    """Its errors are counted, the first of each type of event is marked."""
    heard: list[Event] = []

    def bad(event: Event) -> None:
        raise SystemExit(f"no {type(event).__name__}")

    reports = told(bad, heard.append, events=(RUNNING, RUNNING, FAILED))
    assert [event for event in heard if not isinstance(event, ListenerFailed)] == [RUNNING, RUNNING, FAILED]
    failures = [event for event in reports if isinstance(event, ListenerFailed)]
    assert [(each.of, each.first) for each in failures if each.of != "ListenerFailed"] == [
        ("StateChanged", True),
        ("StateChanged", False),
        ("FlowFailed", True),
    ]
    assert failures[0].error == "SystemExit: no StateChanged"
    assert failures[0].listener.endswith("bad")
    assert len([each for each in failures if each.of == "ListenerFailed"]) <= 1  # it does not feed itself


def test_a_slow_listener_drops_events_and_holds_up_nobody() -> None:
    """What does not fit its queue is dropped and reported; a listener that never returns is left behind."""
    shut, entered, other = threading.Event(), threading.Event(), list[Event]()

    @listens(StateChanged)
    def stuck(event: Event) -> None:
        entered.set()
        shut.wait()

    bus, lags = Bus(), list[ListenerLagged]()
    bus.listen(ListenerLagged, lags.append)
    hub = Listeners([stuck, _only_failures(other)])
    hub.listen(bus)
    bus.emit(RUNNING)
    assert entered.wait(PATIENCE_S)
    for _ in range(10_007):
        bus.emit(RUNNING)
    bus.emit(FAILED)
    assert lags[0].dropped == 1  # at once
    hub.close(0.1)
    assert sum(lag.dropped for lag in lags) >= 7
    assert {lag.listener for lag in lags} == {stuck.__qualname__}
    assert other == [FAILED]
    shut.set()


def _only_failures(heard: list[Event]) -> Listener:
    @listens(FlowFailed)
    def hear(event: Event) -> None:
        heard.append(event)

    return hear


@pytest.mark.parametrize("listener", [7, object(), "page"])
def test_what_can_not_listen_is_refused(listener: Any) -> None:
    """Where the program passes it."""
    with pytest.raises(FlowArgumentError, match="is not callable and has no method marked"):
        Listeners([listener])


@pytest.mark.parametrize("kind", [int, RUNNING, "StateChanged"])
def test_only_events_can_be_heard(kind: Any) -> None:
    """Where the mark is made."""
    with pytest.raises(FlowArgumentError, match="expected a type of events"):
        listens(kind)
