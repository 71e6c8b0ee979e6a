"""One run of a flow in this process: the real graph, compiler and steps, with memory at both ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.config.loading.app import resolve_app
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.engine.entrypoint import app_options, stream_of
from drakkar_flow.engine.executors import program_configs
from drakkar_flow.engine.flow_lifecycle import FlowLifecycle
from drakkar_flow.executor.base import Executor
from drakkar_flow.graph.nodes import Execute
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.observe.listeners import Listener, Listeners
from drakkar_flow.observe.log.structured import structlog
from drakkar_flow.runtime.across.home import Away, slim
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.steps.chain import Chain
from drakkar_flow.runtime.stop_signal import StopSignal
from drakkar_flow.testing.ack_log import AckLog, WatchedTrack
from drakkar_flow.testing.clock import MOMENT_S, FakeClock
from drakkar_flow.testing.executor import EventEmitting, ScriptedExecutor
from drakkar_flow.testing.log import MemoryLog
from drakkar_flow.testing.outcome import Outcome
from drakkar_flow.testing.parts_of import executor_of, real_executor_of, sinks_of
from drakkar_flow.testing.quiescence import Quiescence, WatchedInFlight, WatchedLoopThread
from drakkar_flow.testing.reader import MemoryReader
from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink
from drakkar_flow.testing.state import FinalState
from drakkar_flow.testing.stuck_wait import StuckWait, outstanding

__all__ = ["FlowRun"]

E = TypeVar("E", bound=Event)
T = TypeVar("T")

_LOG = structlog.wrap_logger(
    logging.getLogger("drakkar_flow.testing"), processors=[structlog.stdlib.render_to_log_kwargs]
)
_RETRY = RetryConfig(attempts=3)
_BACKOFF = Backoff(initial_s=0.001, max_s=0.001)
_HOLD_S = 0.5  # real seconds that the brake holds failures back
_MIB = 1024 * 1024
_CLOSE_S = 10.0  # for the executor to end its programs
_CHECK_S = 0.005  # between two checks of a condition that no event announces


class FlowRun:
    """A flow that runs on a separate thread while a test observes it.

    - Sinks that the flow names and `sinks` does not hold are made; a flow that names none gets `kafka-out`.
    - With `open_end` the flow runs until `reader.end()`, else until all `values` are acknowledged.
    - Leaving the `with` block without `finish` abandons the flow.
    - `bugs` has the errors of the library itself; if there are any, the test fails.

    >>> from drakkar_flow import StreamFlow
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
        clock: FakeClock | None = None,
        log: MemoryLog | None = None,
        ack_log: AckLog | None = None,
        real_programs: bool = False,
        known_sinks: dict[str, MemorySink] | None = None,
        listeners: Sequence[Listener] = (),
        cache: WorkerCache | None = None,
    ) -> None:
        self.flow = stream_of(flow)
        self.events: list[Event] = []
        self.bugs: list[str] = []
        self.dead_letters = dead_letters or MemoryDeadLetters()
        self.clock = clock
        self._receipts = ack_log or AckLog()
        self._track = WatchedTrack(self._receipts)
        self._chains: list[Chain] = []
        self._shards = Shards.with_detour() if self.flow.across is not None else None
        self._away = Away()
        self._track.come_home = self._come_home
        self._bus = Bus(lambda event, error: self.bugs.append(f"a listener of {type(event).__name__}: {error!r}"))
        self._listeners = Listeners(listeners)
        self._loop_thread = WatchedLoopThread(self._bug, clock.new_loop if clock is not None else None)
        self._life = FlowLifecycle(self.flow, self._bus, self._loop_thread, _LOG)
        self._given_sinks = list(sinks)
        self._known_sinks = known_sinks if known_sinks is not None else {}
        self._given_executor = executor
        self._real_programs = real_programs
        self._open_end = open_end
        self._cache = cache
        if cache is not None:
            cache.report_to(self._bus)
        settled = resolve_app(config or DrakkarConfig(), app_options(self.flow).get("app_model"))
        self._configure(settled, log or MemoryLog(partitions=partitions))
        self.reader.put(values)
        self._changed = threading.Condition()
        self._ending = self._crashed = False
        self._thread = threading.Thread(target=self._run, name="drakkar-flow-run", daemon=True)

    def _configure(self, config: DrakkarConfig, log: MemoryLog) -> None:
        """Make the parts that depend on the configuration, again if `on_startup` has changed it."""
        self.config = config
        drain_s, runtime, hooks = config.drain_timeout_s, config.runtime, self.flow.hooks
        self.control = StopSignal(drain_s)
        self.in_flight = WatchedInFlight(runtime.max_in_flight_records, int(runtime.max_in_flight_mib * _MIB))
        self.reader = MemoryReader(
            (),
            self.in_flight,
            bus=self._bus,
            hooks=AssignmentHooks(self._loop_thread, self._bus, hooks.on_assign, hooks.on_revoke, drain_s),
            log=log,
            track=self._track,
            shards=self._shards,
            metadata_size=runtime.commit_metadata_bytes,
        )
        if not self._open_end:
            self.reader.end()
        self.dead_letters.config = config
        self.sinks = sinks_of(self.flow, config, self._given_sinks, self._known_sinks)
        executor = (
            real_executor_of(self.flow, config, self._bus)
            if self._real_programs
            else executor_of(self.flow, config, self._given_executor)
        )
        self._given_executor = executor
        self._scripted = executor if isinstance(executor, ScriptedExecutor) else None
        self._executor = EventEmitting(self._scripted, self._bus) if self._scripted is not None else executor

    def sink(self, sink_id: str = "kafka-out") -> MemorySink:
        """Return the sink of that id."""
        return self.sinks[sink_id]

    def __enter__(self) -> Self:
        self.flow.check()
        for kind in Event.__subclasses__():
            self._bus.listen(kind, self._on_event)
        self._listeners.listen(self._bus)
        try:
            self._dataflow = self._begin()
        except BaseException as exc:
            self._close(str(exc))
            self._listeners.close(_CLOSE_S)
            raise
        if self.clock is not None:
            still = Quiescence(
                self.reader, self._loop_thread, self.in_flight, self._chains, self.config.runtime.workers
            )
            self.clock.watch(lambda: not self._offloading and (self._ending or still() or not self._thread.is_alive()))
        self._life.read()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None) -> None:
        self.control.abandon("the test ended")
        self._thread.join()
        self._close()
        self._listeners.close(_CLOSE_S)
        if kind is None and self.bugs:
            raise AssertionError(f"the flow broke: {'; '.join(self.bugs)}")

    def _begin(self) -> Dataflow:
        with self._time_passes():
            config = self._life.open(self.config)
        if config is not self.config:
            self._configure(config, self.reader.log)
        self._loop_thread.run(self._watch_loop())
        if self.clock is not None:  # time passes for on_ready, but not for periodic functions that follow it
            self.clock.watch(lambda: not any(event.hook == "on_ready" for event in self._of(HookRan)))
        with self._time_passes() if self.flow.hooks.on_ready is not None else nullcontext():
            return self._life.prepare(self._components())

    def _of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def crash(self) -> None:
        """End the run as a killed process does: no record is delivered or committed any more."""
        self._crashed = True
        self.reader.detach()
        if self._executor is not None and not self._loop_thread.closed:
            self._loop_thread.run(self._executor.close(), _CLOSE_S)
        self._life.hooks.close(_CLOSE_S)
        self._loop_thread.close(0.0)
        if self.clock is not None:
            self.clock.release()  # not before all was cancelled: no timer fires any more
        self._loop_thread.close()
        self.control.abandon("it crashed")
        self._thread.join()

    def stop(self) -> bool:
        """Request an orderly end: intake stops, records in flight may finish. Returns True for the first request."""
        return self._life.stop()

    def revoke(self, topic_partitions: Iterable[TopicPartition], drain_s: float) -> int:
        """Take partitions away; returns the number of records unfinished after `drain_s` seconds."""
        with self._time_passes():
            return self.reader.revoke(topic_partitions, drain_s)

    def call(self, function: Callable[[], Any]) -> None:
        """Call `function` on the event loop thread, where asyncio's events may be set."""
        self._loop_thread.post(function)

    def wait_until(self, condition: Callable[[], T], timeout_s: float = 20.0) -> T:
        """Wait until `condition` returns a true value, and return it.

        Raises:
            AssertionError: after `timeout_s` seconds; lists the unfinished work.
        """

        def check() -> T | None:
            alive = self._thread.is_alive()  # checked first: the last results of a flow still count
            value = condition()
            if not value and not alive:
                raise AssertionError(f"waited in vain, {self.report()}")
            return value

        return self._wait(check, timeout_s)

    def _wait(self, check: Callable[[], T | None], timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        stuck_wait = StuckWait(self.clock, self._is_empty)
        with self._time_passes(self._wake):
            while True:
                seen = self._seen()  # before the check: results that arrive meanwhile count
                if value := check():
                    return value
                if self.clock is not None:
                    self.clock.go_on(seen[1])
                if self.bugs:
                    raise AssertionError(f"the flow broke: {'; '.join(self.bugs)}")
                if why := stuck_wait.reason() or (time.monotonic() >= deadline and f"{timeout_s:g} s are over"):
                    raise AssertionError(f"waited in vain ({why}), {self.report()}")
                with self._changed:
                    self._changed.wait_for(lambda: self._seen() != seen, _CHECK_S)  # noqa: B023 - called at once

    def _seen(self) -> tuple[int, int]:
        return len(self.events), self.clock.question if self.clock is not None else 0

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def finish(self, timeout_s: float = 30.0) -> Outcome:
        """Wait until the flow has ended by itself, and return its outcome.

        Raises:
            AssertionError: after `timeout_s` seconds, or when the flow broke; lists the unfinished work.
        """
        try:
            self._wait(lambda: not self._thread.is_alive(), timeout_s)
        except AssertionError as exc:
            self.control.abandon("stuck")
            raise AssertionError(f"the flow does not end: {exc}") from None
        if self.bugs:
            raise AssertionError(f"the flow broke: {'; '.join(self.bugs)}")
        deliveries = {sink_id: list(sink.payloads) for sink_id, sink in self.sinks.items()}
        letters = list(self.dead_letters.letters)
        state = FinalState(self.flow, self.final_state(), self.wall_clock()).plain()
        return Outcome(deliveries, dict(self.reader.committed), letters, list(self.events), self.failure, state)

    def _come_home(self, acks: list[Ack]) -> list[Ack]:
        """Return acknowledgements with the records that were sent, as the process that reads them does."""
        shards = self._shards
        if shards is None:
            return acks
        guests = [ack for ack in acks if ack.record.shard >= 0 and shards.is_away(ack.record)]
        if not guests:
            return acks
        self.in_flight.send_home([ack.record for ack in guests])
        others = [ack for ack in acks if ack.record.shard < 0 or not shards.is_away(ack.record)]
        return others + self._away.returned(slim(guests))

    def final_state(self) -> dict[TopicPartition, Mapping[StateKey, bytes]]:
        """Return the final values of every partition of a flow with state, or of every shard, as they are stored."""
        ledgers = self._track.ledgers if self._shards is None else self._shards.ledgers
        return {each: ledgers.final(each) for each in ledgers.topic_partitions()} if ledgers is not None else {}

    def wall_clock(self) -> float:
        """Return the seconds since the epoch by the clock of the flow."""
        return time.time() if self.clock is None else self.clock.time()

    @property
    def failure(self) -> str | None:
        """Reason of the flow's failure; None if it has not failed."""
        return self.control.failure or self._life.failure

    def report(self) -> str:
        """Return the unfinished work, and its place."""
        steps = [step for chain in self._chains for step in chain.steps]
        lines = outstanding(self.in_flight, self.reader, steps, self._scripted, self.sinks, self.dead_letters)
        lines.append(f"committed: {self.reader.committed}")
        if self.bugs:
            lines.append(f"errors: {self.bugs}")
        if self.control.failure is not None:
            lines.append(f"the flow failed: {self.control.failure}")
        raised = dict.fromkeys(f"{event.hook}: {event.error}" for event in self._of(HookRan) if event.error)
        if raised:
            lines.append(f"hooks that raised: {', '.join(raised)}")
        if self.clock is not None and self.clock.waits_for_reality:
            lines.append("the clock stands: a hook waits for a thread or a socket")
        return "; ".join(lines)

    def _is_empty(self) -> bool:
        queued = any(self.reader.statistics().queued.values())
        return not (
            queued or self.in_flight.records or self._ending or self.control.stopping or self.flow.hooks.periodics
        )

    @property
    def _offloading(self) -> bool:
        pool = self._life.hooks.pool
        return pool is not None and pool.running > 0

    @contextmanager
    def _time_passes(self, ask: Callable[[], None] | None = None) -> Iterator[None]:
        with self.clock.running(ask) if self.clock is not None else nullcontext():
            yield

    def _end(self) -> None:
        """Close as a worker does when its dataflow has ended, on the engine's thread."""
        if not self._crashed:
            self._close()

    def _close(self, error: str = "") -> None:
        self._ending = True
        if not self._crashed:
            with self._time_passes():
                self._life.close(error)
        if self.clock is not None:
            self.clock.release()

    def _components(self) -> Components:
        components = Components(
            config=self.config,
            bus=self._bus,
            loop_thread=self._loop_thread,
            control=self.control,
            in_flight=self.in_flight,
            reader=self.reader,
            sinks={sink.id: sink.part(self._retry_of(sink)) for sink in self.sinks.values()},
            dead_letters=self.dead_letters,
            executor=self._executor,
            intake=None,
            ended=self._end,
            track=self._track,
            shards=self._shards,
            away=self._away,
            chains=self._chains,
            programs=program_configs(self.config, self.flow.find(Execute)),
            wall_clock=self.wall_clock,
            cache=self._cache,
        )
        if self.clock is not None:
            return replace(components, brake_hold_s=MOMENT_S)
        hold_s = min(_HOLD_S, self.config.dlq.hold_s)
        return replace(components, task_backoff=_BACKOFF, dlq_backoff=_BACKOFF, brake_hold_s=hold_s)

    def _retry_of(self, sink: MemorySink) -> RetryConfig | None:
        """Return the real sink's retry policy; in real time without its pauses."""
        if self.clock is None:
            return None
        configured = getattr(self.config.sinks, sink.kind, {}).get(sink.name)
        return configured.retry if configured is not None else _RETRY

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RecordsFinished):
            self._receipts.publish()
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
        except BaseException as exc:  # the test must see every error that ended the engine
            self.bugs.append(repr(exc))
