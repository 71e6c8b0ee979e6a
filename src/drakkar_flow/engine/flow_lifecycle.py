"""Flow lifecycle: start, drain and close, shared by the worker (`worker_process.py`) and the testing kit.

start   loop -> on_startup -> components -> connect everything -> on_ready -> periodic functions -> read
drain   the intake stops, periodic functions end, records in flight may finish
close   periodic functions -> the last commit, waited for, and on_revoke -> sinks, dead letters and
        executor side by side -> offload pool -> loop
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any

from bytewax.dataflow import Dataflow

from drakkar_flow.compiler.lower import compile_flow
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.hooks import RunningHooks
from drakkar_flow.engine.startup import Unreached, connect_all
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.lifecycle import DrainFinished, FlowFailed, StateChanged
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.failures import describe

__all__ = ["FlowLifecycle"]

_CLOSE_S = 10.0  # maximum for one part to close, within the budget of the stop


class FlowLifecycle:
    """Starts and ends a flow with components that its owner makes; emits its states on the bus. Use each instance once.

    Order of calls: `open`, `prepare`, `read`; `stop` from any thread and at any time; `close`, also
    after a failed start. Parts that could not be closed are logged to `log`.
    """

    def __init__(self, flow: StreamFlow, bus: Bus, loop_thread: EventLoopThread, log: Any) -> None:
        self.flow = flow
        self.failure: str | None = None
        self.components: Components | None = None
        self.hooks = RunningHooks(flow.hooks, loop_thread, bus)
        self.stop_early = False
        """True if a stop was requested before there were components to stop."""
        self.stop_asked = asyncio.Event()
        """Set on the loop when a stop is requested."""
        self._bus = bus
        self._loop_thread = loop_thread
        self._log = log
        self._closing = threading.Lock()
        self._closed = False
        self._reading = False
        self._drain_started_at: float | None = None

    def open(self, config: DrakkarConfig) -> DrakkarConfig:
        """Start the loop, call `on_startup` and return the configuration that it returns.

        Raises:
            StartupError: `on_startup` raised, or returned an invalid configuration.
        """
        self._bus.emit(StateChanged("starting", flow=self.flow.name, config=str(config.file or "")))
        self._loop_thread.open()
        return self.hooks.startup(config)

    def prepare(
        self,
        components: Components,
        check_source: Callable[[Unreached], None] | None = None,
        interrupted: Future[None] | None = None,
    ) -> Dataflow:
        """Compile the flow, connect its components, call `on_ready` and start the periodic functions.

        Raises:
            FlowError, StartupError: with every problem.
            Exception: that of `interrupted`, which ends the connecting.
        """
        self.components = components
        components.control.on_stop = components.in_flight.engine.wake
        dataflow = compile_flow(self.flow, components)
        self._loop_thread.run(connect_all(components, self._log, check_source, interrupted))
        self.hooks.ready(components.config, components.sinks.values(), components.cache)
        return dataflow

    def read(self) -> None:
        """Start to read records."""
        assert self.components is not None
        if self.stop_early:
            self.components.control.stop()
        self._reading = True
        self._bus.emit(StateChanged("running", flow=self.flow.name))
        self.components.reader.start()

    def stop(self) -> bool:
        """Request a drain; returns True for the first request.

        Callable from any thread and from a signal handler. The handler may have interrupted a listener that
        holds its lock, so the event is emitted on another thread.
        """
        if self.components is None:
            first, self.stop_early = not self.stop_early, True
            return first
        first = self.components.control.stop()
        if first:
            self._drain_started_at = time.monotonic()
            self.hooks.stop()
            self._loop_thread.post(self.stop_asked.set)
            self._loop_thread.post(self._bus.emit, StateChanged("draining"))
        return first

    def close(self, error: str = "") -> bool:
        """Close everything in order; returns True if the flow was open. Callable from any thread.

        Then `failure` is the reason of a failed flow: the first recorded one, else `error`, else the unfinished work.
        """
        with self._closing:
            if self._closed:
                return False
            self._closed = True
        components = self.components
        unfinished = uncommitted = 0
        oldest: tuple[tuple[TopicPartition, int], ...] = ()
        self._try("periodic functions", partial(self.hooks.close_periodics, self._left_s(reserve_s=3.0)))
        self.failure = error or None
        if components is not None:
            components.reader.close()
            unfinished, uncommitted = components.in_flight.records, components.reader.statistics().uncommitted
            oldest = components.in_flight.oldest(components.in_flight.statistics().by_partition)
            self.failure = components.control.failure or self.failure
            if unfinished and self.failure is None:
                self.failure = f"the drain budget expired with {unfinished} records unfinished; they will be read again"
            self._let_go(components)
        if not self._loop_thread.close(self._left_s()):
            self.failure = self.failure or "a hook blocks the event loop, or ignores its cancellation"
        if self._drain_started_at is not None:
            took_s = time.monotonic() - self._drain_started_at
            self._bus.emit(DrainFinished(unfinished, took_s, uncommitted, oldest))
        reason = self.failure or ""
        if reason and self._reading:
            self._bus.emit(FlowFailed(reason))
            reason = ""  # reported already
        self._bus.emit(StateChanged("failed" if self.failure else "stopped", reason))
        return True

    def disown(self, end: Callable[..., object]) -> None:
        """Release the flow in a forked child, where it belongs to the parent; `end` is called if the flow continues."""
        self._closed = True
        self._bus.disown(end)
        self._loop_thread.disown(end)

    def _let_go(self, components: Components) -> None:
        closers = [part.sink.close for part in components.sinks.values()]
        closers.append(components.dead_letters.close)
        if components.executor is not None:
            closers.append(components.executor.close)
        self._try("sinks and executor", partial(self._close_together, closers))
        self._try("offload pool", self._close_hooks)

    def _close_together(self, closers: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Close parts concurrently: one that hangs does not delay the others."""
        limit_s = self._left_s(reserve_s=1.0)

        async def close(closer: Callable[[], Coroutine[Any, Any, None]]) -> None:
            try:
                async with asyncio.timeout(limit_s):
                    await closer()
            except Exception as exc:
                self._close_failed(getattr(closer, "__qualname__", ""), exc)

        async def close_all() -> None:
            await asyncio.gather(*map(close, closers))

        self._loop_thread.run(close_all(), limit_s + 0.5)

    def _close_hooks(self) -> None:
        if left := self.hooks.close(self._left_s()):
            self._log.warning("offload_left_threads", count=left, expect="they end with the process")

    def _left_s(self, reserve_s: float = 0.0) -> float:
        """Return the seconds that the next part has to close."""
        if self.components is None:
            return _CLOSE_S
        return min(_CLOSE_S, self.components.control.close_budget_s(reserve_s))

    def _try(self, part: str, close: Callable[[], object]) -> None:
        """Close one part; an error does not prevent the close of the others."""
        try:
            close()
        except Exception as exc:
            self._close_failed(part, exc)

    def _close_failed(self, part: str, error: Exception) -> None:
        expect = "all other parts are closed"
        self._log.warning("close_failed", part=part, error=describe(error), expect=expect)
