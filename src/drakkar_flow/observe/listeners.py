"""Listeners of the program: each runs on a separate thread, so that neither delays nor errors reach the flow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from drakkar_flow.errors import FlowArgumentError, Problem
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.lifecycle import ListenerFailed, ListenerLagged

__all__ = ["Listener", "Listeners", "listens"]

Listener = Any
"""A function of one event, or an object with methods that `listens` marks."""

F = TypeVar("F", bound=Callable[..., object])

_MARK: Final = "__drakkar_events__"
_CAPACITY: Final = 10_000  # events queued for one listener; hot events are one per batch
_REPORT_S: Final = 10.0  # between two reports of dropped events
_ITS_OWN: Final = (ListenerFailed, ListenerLagged)


def listens(*types: type[Event]) -> Callable[[F], F]:
    """Mark a function or a method as a listener of the given types of events.

    >>> from drakkar_flow.events import DeadLettersWritten
    >>> class Audit:
    ...     @listens(DeadLettersWritten)
    ...     def written(self, event: DeadLettersWritten) -> None:
    ...         print(event.count)

    Raises:
        FlowArgumentError: an argument is not a type of events.
    """
    given: tuple[Any, ...] = types  # a caller may not use a type checker
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            problem = Problem("listens", f"expected a type of events, got {kind!r}", "use drakkar_flow.events")
            raise FlowArgumentError([problem])

    def mark(function: F) -> F:
        setattr(function, _MARK, types)
        return function

    return mark


class Listeners:
    """Passes the events of a bus to the listeners of a program.

    Events wait for their listener in a bounded queue; events that do not fit are dropped, counted and reported.
    Exceptions of a listener are counted, and reported once per type of event.
    """

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._threads = [_ListenerThread(_name_of(each), _functions_of(each)) for each in listeners]

    def listen(self, bus: Bus) -> None:
        """Subscribe the listeners to a bus."""
        for thread in self._threads:
            thread.listen(bus)

    def close(self, timeout_s: float) -> None:
        """Let the listeners handle their queued events, all together for at most `timeout_s`, then end them."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class _ListenerThread:
    """One listener with its queue and its thread."""

    def __init__(self, name: str, functions: dict[type[Event], list[Callable[[Any], object]]]) -> None:
        self._name = name
        self._functions = functions
        self._queue = SimpleQueue[Event | None]()
        self._lock = threading.Lock()
        self._dropped = 0
        self._reported_at = -_REPORT_S
        self._failed: set[type[Event]] = set()
        self._thread = threading.Thread(target=self._run, name=f"listener-{name}", daemon=True)
        self._emit: Callable[[Event], None] = lambda _event: None

    def listen(self, bus: Bus) -> None:
        self._emit = bus.emit
        for kind in self._functions:
            bus.listen(kind, self._put)
        self._thread.start()

    def end(self) -> None:
        self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            with self._lock:
                self._dropped += self._queue.qsize()
        self._report(at_once=True)

    def _put(self, event: Event) -> None:
        """Queue an event; called on the thread that emits, never waits."""
        if self._queue.qsize() < _CAPACITY:
            self._queue.put(event)
            return
        with self._lock:
            self._dropped += 1
        self._report()

    def _report(self, *, at_once: bool = False) -> None:
        with self._lock:
            dropped, now = self._dropped, time.monotonic()
            if not dropped or (now - self._reported_at < _REPORT_S and not at_once):
                return
            self._dropped, self._reported_at = 0, now
        self._emit(ListenerLagged(self._name, dropped))

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            kind = type(event)
            for function in self._functions[kind]:
                try:
                    function(event)
                except BaseException as exc:  # an error must stop neither the flow nor this thread
                    first = kind not in self._failed
                    if not first and kind in _ITS_OWN:
                        continue  # else each error would cause the next one
                    self._failed.add(kind)
                    self._emit(ListenerFailed(self._name, kind.__name__, f"{type(exc).__name__}: {exc}", first))


def _name_of(listener: Listener) -> str:
    return getattr(listener, "__qualname__", type(listener).__qualname__)


def _functions_of(listener: Listener) -> dict[type[Event], list[Callable[[Any], object]]]:
    """Return the functions of a listener by type of event.

    Raises:
        FlowArgumentError: the listener is not callable and has no marked method.
    """
    functions: dict[type[Event], list[Callable[[Any], object]]] = {}
    marked = [] if hasattr(listener, _MARK) else list(_marked_methods(listener))
    functions_or_not: list[Any] = marked or [listener]
    for function in functions_or_not:
        if not callable(function):
            what = f"{_name_of(listener)} is not callable and has no method marked with @listens"
            raise FlowArgumentError([Problem("listeners", what, "pass a function of an event, or mark its methods")])
        for kind in getattr(function, _MARK, None) or _all_events(Event):
            functions.setdefault(kind, []).append(function)
    return functions


def _marked_methods(listener: Listener) -> Iterator[Callable[[Any], object]]:
    for name in dir(type(listener)):
        if hasattr(getattr(type(listener), name, None), _MARK):
            yield getattr(listener, name)


def _all_events(kind: type[Event]) -> Iterator[type[Event]]:
    for each in kind.__subclasses__():
        yield each
        yield from _all_events(each)
