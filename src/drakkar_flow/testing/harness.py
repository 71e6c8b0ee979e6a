"""Running a flow in this process: the real graph, compiler and steps, with memory at both ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from bytewax.run import cli_main

from drakkar_flow.compiler.lower import compile_flow
from drakkar_flow.config.app import settle_app
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.hooks import RunningHooks
from drakkar_flow.engine.terse import app_options, stream_of
from drakkar_flow.executor.base import Executor
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.nodes import Execute, Route
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.outcome import Failure
from drakkar_flow.model.record import Lane
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import Event
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.parts import Parts
from drakkar_flow.testing.executor import ScriptedExecutor
from drakkar_flow.testing.reader import MemoryReader
from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink

__all__ = ["FlowRun", "Outcome", "run_flow"]

E = TypeVar("E", bound=Event)
T = TypeVar("T")

_BACKOFF = Backoff(initial_s=0.001, max_s=0.001)
_MIB = 1024 * 1024
_CLOSE_S = 5.0
_LOOK_S = 0.005  # between two looks at a condition no event announces


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flow did: payloads by sink id, committed offsets, dead letters, events, why it failed."""

    deliveries: dict[str, list[Any]]
    committed: dict[Lane, int]
    dead_letters: list[Failure]
    events: list[Event]
    failure: str | None

    @property
    def values(self) -> list[Any]:
        """The data of every payload, sink by sink, in the order each sink wrote them."""
        return [payload.data for payloads in self.deliveries.values() for payload in payloads]

    def of(self, kind: type[E]) -> list[E]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class FlowRun:
    """A flow that runs on a thread of its own while a test looks on.

    Sinks the flow names and `sinks` does not hold are made; a flow that names none gets `kafka-out`.
    With `open_end` the flow goes on until `reader.end()`, else until all `values` are acknowledged.
    Whoever leaves the `with` block without `finish` abandons the flow. `bugs` has what broke in the
    library itself; if anything did, the test fails.

    >>> with FlowRun(StreamFlow("echo").decode(str).route(), open_end=True) as run:
    ...     run.reader.put(["hello"])
    ...     run.wait_until(lambda: run.sink().values)
    ['hello']
    """

    def __init__(
        self,
        flow: Any,
        values: Iterable[Any] = (),
        *,
        sinks: Iterable[MemorySink] = (),
        executor: Executor | None = None,
        dead_letters: MemoryDeadLetters | None = None,
        config: DrakkarConfig | None = None,
        partitions: int = 1,
        open_end: bool = False,
    ) -> None:
        self.flow = stream_of(flow)
        self.config = config = settle_app(config or DrakkarConfig(), app_options(self.flow).get("app_model"))
        self.events: list[Event] = []
        self.dead_letters = dead_letters or MemoryDeadLetters()
        self.control = Control(config.drain_timeout_s)
        self.flight = Flight(config.runtime.max_in_flight_records, int(config.runtime.max_in_flight_mib * _MIB))
        self.reader = MemoryReader(values, self.flight, partitions=partitions)
        if not open_end:
            self.reader.end()
        self.sinks = _sinks(self.flow, sinks)
        self._executor = executor if executor is not None or not self.flow.find(Execute) else ScriptedExecutor()
        self._bridge = Bridge(self._bug)
        self._changed = threading.Condition()
        self.bugs: list[str] = []
        self._thread = threading.Thread(target=self._run, name="drakkar-flow-run", daemon=True)

    def sink(self, sink_id: str = "kafka-out") -> MemorySink:
        """The sink of that id."""
        return self.sinks[sink_id]

    def __enter__(self) -> Self:
        self._bus = Bus(lambda event, error: self.bugs.append(f"a listener of {type(event).__name__}: {error!r}"))
        self._hooks = RunningHooks(self.flow.hooks, self._bridge, self._bus)
        parts = self._parts()
        dataflow = compile_flow(self.flow, parts)
        self._bridge.open()
        self._bridge.run(self._watch_loop())
        self._dataflow = dataflow
        self._ready(parts)
        self.reader.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None) -> None:
        self.control.abandon("the test ended")
        self._thread.join()
        self._let_go()
        self._bridge.close()
        if kind is None and self.bugs:
            raise AssertionError(f"the flow broke: {'; '.join(self.bugs)}")

    def call(self, function: Callable[[], Any]) -> None:
        """Call `function` on the thread of the flow's event loop, where asyncio's events may be set."""
        self._bridge.post(function)

    def wait_until(self, condition: Callable[[], T], timeout_s: float = 20.0) -> T:
        """Wait until `condition` gives something true, and return that.

        Raises:
            AssertionError: after `timeout_s` seconds, with what was open.
        """
        waited = 0.0
        with self._changed:
            while True:
                alive = self._thread.is_alive()  # looked at first: what a flow did last still counts
                if value := condition():
                    return value
                if waited >= timeout_s or not alive:
                    raise AssertionError(f"waited in vain, {self._open()}")
                if not self._changed.wait(_LOOK_S):
                    waited += _LOOK_S

    def finish(self, timeout_s: float = 30.0) -> Outcome:
        """Wait until the flow has ended by itself, and tell what it did.

        Raises:
            AssertionError: after `timeout_s` seconds, with what was open; or when the flow broke.
        """
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            open_now = self._open()
            self.control.abandon("stuck")
            raise AssertionError(f"the flow did not end within {timeout_s:g} s: {open_now}")
        if self.bugs:
            raise AssertionError(f"the flow broke: {'; '.join(self.bugs)}")
        deliveries = {sink_id: list(sink.payloads) for sink_id, sink in self.sinks.items()}
        letters = list(self.dead_letters.letters)
        return Outcome(deliveries, dict(self.reader.committed), letters, list(self.events), self.control.failure)

    def _ready(self, parts: Parts) -> None:
        try:
            self._hooks.ready(self.config, parts.sinks.values())
        except BaseException:
            self._let_go()
            self._bridge.close()
            raise

    def _let_go(self) -> None:
        self._hooks.close_periodics(_CLOSE_S)
        self._hooks.close(_CLOSE_S)

    def _open(self) -> str:
        flight = self.flight.statistics()
        lanes = ", ".join(f"{topic}:{number} {count}" for (topic, number), count in flight.by_lane.items()) or "none"
        return f"in flight: {lanes}; committed: {self.reader.committed}; errors: {self.bugs or 'none'}"

    def _parts(self) -> Parts:
        for kind in Event.__subclasses__():
            self._bus.listen(kind, self._heard)
        return Parts(
            config=self.config,
            bus=self._bus,
            bridge=self._bridge,
            control=self.control,
            flight=self.flight,
            reader=self.reader,
            sinks={sink.id: sink.part() for sink in self.sinks.values()},
            dead_letters=self.dead_letters,
            executor=self._executor,
            intake=None,
            ended=lambda: None,
            task_backoff=_BACKOFF,
            dlq_backoff=_BACKOFF,
        )

    def _heard(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def _bug(self, error: BaseException) -> None:
        self.bugs.append(repr(error))
        self.control.abandon(f"a bug: {error!r}")

    async def _watch_loop(self) -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: self.bugs.append(repr(context.get("exception") or context["message"]))
        )

    def _run(self) -> None:
        runtime = self.config.runtime
        interval = timedelta(seconds=runtime.epoch_interval_s)
        try:
            cli_main(self._dataflow, workers_per_process=runtime.workers, epoch_interval=interval)  # type: ignore[no-untyped-call]
        except BaseException as exc:  # whatever ended the engine is what the test has to hear of
            self.bugs.append(repr(exc))


def run_flow(
    flow: Any,
    values: Iterable[Any] = (),
    *,
    sinks: Iterable[MemorySink] = (),
    executor: Executor | None = None,
    dead_letters: MemoryDeadLetters | None = None,
    config: DrakkarConfig | None = None,
    partitions: int = 1,
    timeout_s: float = 30.0,
) -> Outcome:
    """Run a flow or a handler over `values` until all of them are acknowledged.

    Raises:
        FlowError: when the flow can't be compiled.
        AssertionError: when it has not ended after `timeout_s` seconds, with what was open.
    """
    with FlowRun(
        flow,
        values,
        sinks=sinks,
        executor=executor,
        dead_letters=dead_letters,
        config=config,
        partitions=partitions,
    ) as run:
        return run.finish(timeout_s)


def _sinks(flow: StreamFlow, given: Iterable[MemorySink]) -> dict[str, MemorySink]:
    sinks = {sink.id: sink for sink in given}
    route = flow.find(Route)
    for ref in route.sinks if route is not None else ():
        if ref.id not in sinks:
            sinks[ref.id] = MemorySink(ref.name, kind=ref.kind)
    return sinks or {"kafka-out": MemorySink()}
