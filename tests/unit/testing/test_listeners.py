"""Listeners of the kit receive events as those of a worker do."""

from __future__ import annotations

import threading

from drakkar_flow import StreamFlow, dataflow
from drakkar_flow.events import Event, ListenerFailed, RecordsFinished, listens
from drakkar_flow.testing import FlowHarness

FLOW = StreamFlow("echo").decode(str).route()


class Page:
    """Counts finished records."""

    def __init__(self) -> None:
        self.finished = 0
        self.threads: set[str] = set()

    @listens(RecordsFinished)
    def on_finished(self, event: RecordsFinished) -> None:
        """Count."""
        self.finished += event.done
        self.threads.add(threading.current_thread().name)


def test_a_listener_has_all_events_of_a_run_when_it_has_ended() -> None:
    """On a separate thread, in each run."""
    page, seen = Page(), list[Event]()
    with FlowHarness(FLOW, listeners=[page, seen.append]) as kit:
        kit.send_all(["a", "b"])
        kit.wait_acknowledged()
        kit.stop()
        assert page.finished == 2
        kit.restart()
        kit.send("c")
        kit.wait_acknowledged()
    assert (page.finished, page.threads) == (3, {"listener-Page"})
    assert [event for event in seen if isinstance(event, RecordsFinished)] == kit.of(RecordsFinished)


def test_the_listeners_of_a_dataflow_are_there_too() -> None:
    """As in a worker."""
    page = Page()
    with FlowHarness(dataflow(FLOW, listeners=[page])) as kit:
        kit.send("a")
        kit.wait_acknowledged()
    assert page.finished == 1


def test_an_error_of_a_listener_is_an_event_and_the_flow_goes_on() -> None:
    """The kit shows it as the metrics and the log of a worker do."""

    @listens(RecordsFinished)
    def broken(event: RecordsFinished) -> None:
        raise ValueError("no")

    with FlowHarness(FLOW, listeners=[broken]) as kit:
        kit.send("a")
        kit.wait_acknowledged()
    assert kit.committed == {("input", 0): 1}
    assert [(event.of, event.error) for event in kit.of(ListenerFailed)] == [("RecordsFinished", "ValueError: no")]
