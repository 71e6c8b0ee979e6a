"""The bus hands events out, whatever its listeners do."""

from __future__ import annotations

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.source import CommitFailed, ConsumerError


def refuse(_: Event, *__: object) -> None:
    """Raise, as a broken listener does."""
    raise ValueError("broken listener")


def test_the_sample_of_events_has_every_type(one_of_each: list[Event]) -> None:
    """A new event has to join the sample, so that metrics and lines are decided for it."""
    assert {type(event) for event in one_of_each} == set(Event.__subclasses__())
    assert len(one_of_each) == len(Event.__subclasses__())


def test_an_event_reaches_the_listeners_of_its_type_only() -> None:
    """A listener hears of the type it asked for and of nothing else."""
    heard: list[Event] = []
    bus = Bus()
    bus.listen(CommitFailed, heard.append)
    bus.emit(ConsumerError("x"))
    bus.emit(CommitFailed("y"))
    assert heard == [CommitFailed("y")]


def test_a_listener_that_raises_does_not_hurt_the_others() -> None:
    """The listeners after a broken one hear the event, and the error is reported."""
    heard: list[Event] = []
    errors: list[tuple[Event, Exception]] = []
    bus = Bus(on_error=lambda event, exc: errors.append((event, exc)))
    bus.listen(CommitFailed, refuse)
    bus.listen(CommitFailed, heard.append)
    bus.emit(CommitFailed("x"))
    assert heard == [CommitFailed("x")]
    assert [(event, str(exc)) for event, exc in errors] == [(CommitFailed("x"), "broken listener")]


def test_a_report_of_errors_that_raises_does_not_hurt_the_emitter() -> None:
    """Even when the error can't be reported, emit returns and the others hear the event."""
    heard: list[Event] = []
    bus = Bus(on_error=refuse)
    bus.listen(CommitFailed, refuse)
    bus.listen(CommitFailed, heard.append)
    bus.emit(CommitFailed("x"))
    assert heard == [CommitFailed("x")]
