"""The life of a flow in one process, on one page: start, drain, close.

    start   logging -> loop -> on_startup -> metrics -> parts -> connect everything -> on_ready ->
            periodic functions -> signals -> the common start, if asked for -> read
    drain   a signal, `shutdown` or a failure stops the intake, periodic functions end; what is in
            flight may finish within the drain budget; the source ends; Bytewax closes its sinks
    close   periodic functions -> the last commit, waited for, and on_revoke -> sinks -> dead letters ->
            executor -> offload pool -> loop -> metrics -> logs

It is the same under `StreamingRunner`, `drakkar-flow run` and `python -m bytewax.run`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any

import structlog
from bytewax.dataflow import Dataflow

from drakkar_flow._version import __version__
from drakkar_flow.compiler.lower import compile_flow
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.build import build_parts, settle_topics
from drakkar_flow.engine.gauges import read_gauges
from drakkar_flow.engine.hooks import RunningHooks
from drakkar_flow.engine.identity import cluster_name_of, worker_id_of
from drakkar_flow.engine.memory import CollectorSettings
from drakkar_flow.engine.startup import connect_all, wait_for_common_start
from drakkar_flow.engine.watchdog import Watchdog
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.collectors import RuntimeGauges
from drakkar_flow.observe.events import DrainFinished, Event, FlowFailed, StateChanged
from drakkar_flow.observe.health import Answer, Health, liveness, readiness
from drakkar_flow.observe.http import MetricsServer
from drakkar_flow.observe.log import LoggingHandle, LogListener, configure_logging
from drakkar_flow.observe.metrics import Metrics
from drakkar_flow.observe.statistics import Statistics
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.parts import Parts

__all__ = ["EXIT_ABORTED", "EXIT_CLEAN", "EXIT_FAILED", "Lifecycle"]

EXIT_CLEAN = 0
EXIT_FAILED = 1
EXIT_ABORTED = 130

_CLOSE_S = 10.0  # each of the sinks, the dead letters and the executor gets so long to let go
_ABORT_S = 2.0  # a second signal gives the executor so long to kill its children

Handler = Callable[[int, FrameType | None], Any] | int | None


class Lifecycle:
    """Starts and ends one flow. Use each instance once."""

    def __init__(
        self, flow: StreamFlow, config: DrakkarConfig, *, own_logging: bool, own_signals: bool, worker_id: str = ""
    ) -> None:
        self.flow = flow
        self.config = settle_topics(flow, config)
        self.statistics = Statistics()
        self.failure: str | None = None
        self._given_worker_id = worker_id
        self._name_worker()
        self._own_logging = own_logging
        self._own_signals = own_signals
        self._log = structlog.get_logger("drakkar_flow")
        self._bus = Bus(self._listener_failed)
        self._bridge = Bridge(self._bug)
        self._parts: Parts | None = None
        self._logging: LoggingHandle | None = None
        self._log_listener: LogListener | None = None
        self._metrics = Metrics()
        self._health = Health()
        self._watchdog: Watchdog | None = None
        self._server: MetricsServer | None = None
        self._hooks = RunningHooks(flow.hooks, self._bridge, self._bus)
        self._collector = CollectorSettings(config.runtime.gc_threshold)
        self._old_signals: dict[int, Handler] = {}
        self._closing = threading.Lock()
        self._closed = False
        self._drain_started_at: float | None = None
        self._signals = 0
        self._stop_early = False
        self._stop_asked = asyncio.Event()
        self._started = False
        self._running = False

    # --- start ----------------------------------------------------------------------------------

    def start(self) -> Dataflow:
        """Start everything and return the dataflow to run.

        Raises:
            FlowError, ConfigError, StartupError: with everything that is wrong; nothing is left open.
            RuntimeError: when it was started before.
        """
        if self._started:
            raise RuntimeError("a flow's life is lived once: make a new one to run the flow again")
        self._started = True
        try:
            return self._start()
        except BaseException as exc:
            self._close(str(exc))
            raise

    def _start(self) -> Dataflow:
        self.flow.check()
        self._open_logging()
        self._emit(StateChanged("starting", flow=self.flow.name))
        self._bridge.open()
        self._ask_on_startup()
        self._serve_metrics()
        parts = self._parts = build_parts(self.flow, self.config, self._bus, self._bridge, self.close)
        self._metrics.watch(self._gauges)
        self._metrics.describe_sinks((part.spec.kind, part.name) for part in parts.sinks.values())
        dataflow = compile_flow(self.flow, parts)
        self._bridge.run(connect_all(parts, self._log))
        self._hooks.ready(self.config, parts.sinks.values())
        if self._own_signals:
            self._take_signals()
        if self._stop_early:
            parts.control.stop()
        elif self.config.kafka.startup_align_enabled:
            self._bridge.run(wait_for_common_start(self.config.kafka, self._stop_asked, self._log))
        self._collector.apply()
        parts.reader.start()
        self._watchdog = Watchdog(parts)
        self._watchdog.start()
        self._running = True
        self._emit(StateChanged("running", flow=self.flow.name))
        return dataflow

    def _ask_on_startup(self) -> None:
        """Take the configuration that the flow wants; what is set up already is set up anew."""
        for warning in self.flow.hooks.warnings:
            self._log.warning("handler_warning", reason=warning)
        before = self._logging_settings()
        self.config = settle_topics(self.flow, self._hooks.startup(self.config))
        self._name_worker()
        self._collector = CollectorSettings(self.config.runtime.gc_threshold)
        if self._logging is not None and self._logging_settings() != before:
            self._logging.close()
            self._logging = configure_logging(**self._logging_settings())

    def _name_worker(self) -> None:
        self.worker_id = worker_id_of(self.config, os.environ, self._given_worker_id)
        self.cluster_name = cluster_name_of(self.config, os.environ)

    def _open_logging(self) -> None:
        if self._own_logging:
            self._logging = configure_logging(**self._logging_settings())
        for notice in self.config.notices:
            self._log.warning("config_notice", where=notice.where, what=notice.what, remedy=notice.remedy)
        self._log_listener = LogListener(self._log)
        self._log_listener.listen(self._bus)
        self.statistics.listen(self._bus)
        self._health.listen(self._bus)

    def _logging_settings(self) -> dict[str, Any]:
        config = self.config
        return {
            "level": config.logging.level,
            "format": config.logging.format,
            "output": config.logging.output,
            "worker_id": self.worker_id,
            "consumer_group": config.kafka.consumer_group,
            "cluster_name": self.cluster_name,
            "service_version": __version__,
            "fields": config.logging.fields,
        }

    def _serve_metrics(self) -> None:
        config = self.config
        if config.metrics.enabled:
            self._metrics.listen(self._bus)
            self._metrics.describe_worker(
                worker_id=self.worker_id, version=__version__, consumer_group=config.kafka.consumer_group
            )
            self._serve_user_metrics()
            pages = {"/healthz": self._healthz, "/readyz": self._readyz}
            self._server = MetricsServer(
                self._metrics.registry, host=config.metrics.host, port=config.metrics.port, pages=pages
            )
            self._server.start()

    def _serve_user_metrics(self) -> None:
        """Serve what the classes of the flow's handlers hold of prometheus_client's metrics."""
        functions = [getattr(node, "fn", None) for node in self.flow.nodes]
        owners = {id(owner): owner for fn in functions if (owner := getattr(fn, "__self__", None)) is not None}
        found = [name for owner in owners.values() for name in self._metrics.add_user_metrics(owner)]
        if found:
            self._log.info("user_metrics_discovered", metrics=found)

    # --- drain ----------------------------------------------------------------------------------

    def stop(self) -> bool:
        """Ask for an orderly end; returns whether nobody had asked before.

        Callable from any thread and from a signal handler, which may have interrupted a listener that
        holds its lock: so the event is emitted elsewhere.
        """
        if self._parts is None:
            first, self._stop_early = not self._stop_early, True
            return first
        first = self._parts.control.stop()
        if first:
            self._drain_started_at = time.monotonic()
            self._hooks.stop()
            self._bridge.post(self._stop_asked.set)
            self._bridge.post(self._emit, StateChanged("draining"))
        return first

    def fail(self, reason: str) -> None:
        """Note why the flow failed, if nothing else was noted before."""
        if self._parts is not None:
            self._parts.control.fail(reason)

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old_signals[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            self._abort()
        self.stop()

    def _abort(self) -> None:
        """Kill the children and leave at once: nothing is committed that was not already."""
        if self._parts is not None and self._parts.executor is not None:
            try:
                self._bridge.run(self._parts.executor.close(), _ABORT_S)
            except Exception as exc:  # on the way out, whatever it is
                self._log.warning("abort_left_children", error=str(exc))
        os._exit(EXIT_ABORTED)

    # --- close ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of everything in order; safe to call twice and from any thread."""
        self._close("")

    def _close(self, error: str) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._watchdog is not None:
            self._watchdog.close()
        parts = self._parts
        unfinished = uncommitted = 0
        self._try("periodic functions", partial(self._hooks.close_periodics, _CLOSE_S))
        if parts is not None:
            parts.reader.close()
            unfinished, uncommitted = parts.flight.records, parts.reader.statistics().uncommitted
            self.failure = parts.control.failure or error or None
            if unfinished and self.failure is None:
                self.failure = (
                    f"the drain budget was over with {unfinished} records unfinished; they will be read again"
                )
            self._let_go(parts)
        else:
            self.failure = error or None
        if not self._bridge.close(_CLOSE_S):
            self.failure = self.failure or "a hook blocks the event loop, or ignores that it was cancelled"
        if self._drain_started_at is not None:
            self._emit(DrainFinished(unfinished, time.monotonic() - self._drain_started_at, uncommitted))
        if self.failure is not None and self._running:
            self._emit(FlowFailed(self.failure))
        self._emit(StateChanged("failed" if self.failure else "stopped", self.failure or ""))
        self._collector.restore()
        self._restore_signals()
        self._observe_no_more()

    def _observe_no_more(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._log_listener is not None:
            self._log_listener.close()
        if self._logging is not None:
            self._logging.close()

    def _let_go(self, parts: Parts) -> None:
        closers = [part.sink.close for part in parts.sinks.values()]
        closers.append(parts.dead_letters.close)
        if parts.executor is not None:
            closers.append(parts.executor.close)
        for closer in closers:
            self._try(getattr(closer, "__qualname__", ""), partial(self._await, closer))
        self._try("offload pool", self._close_hooks)

    def _await(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._bridge.run(close(), _CLOSE_S)

    def _close_hooks(self) -> None:
        if left := self._hooks.close(_CLOSE_S):
            self._log.warning("offload_left_threads", count=left, expect="they end with the process")

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._old_signals.items():
                signal.signal(number, handler)
            self._old_signals.clear()

    def _try(self, part: str, close: Callable[[], object]) -> None:
        """Close one part; that it can't must not keep the others open."""
        try:
            close()
        except Exception as exc:
            self._log.warning("close_failed", part=part, error=str(exc))

    # --- what others look at --------------------------------------------------------------------

    @property
    def exit_code(self) -> int:
        """0 after a clean end, 1 after a failure or a drain that ran out of time."""
        return EXIT_FAILED if self.failure else EXIT_CLEAN

    @property
    def metrics_port(self) -> int | None:
        """The port the metrics are served on."""
        return self._server.port if self._server is not None else None

    def _gauges(self) -> RuntimeGauges:
        if self._parts is None:
            return RuntimeGauges()
        health = self._watchdog.health if self._watchdog is not None else 0
        return read_gauges(self._parts, self._hooks.pool, health)

    def _healthz(self) -> Answer:
        heartbeats = self._watchdog.heartbeats if self._watchdog is not None else {}
        return liveness(heartbeats, self.config.runtime.stuck_after_s)

    def _readyz(self) -> Answer:
        return readiness(self._health.snapshot)

    def _emit(self, event: Event) -> None:
        self._bus.emit(event)

    def _bug(self, error: BaseException) -> None:
        self._log.error("bug", exc_info=error)
        self.fail(f"a bug, or a hook that ends the event loop: {error!r}")

    def _listener_failed(self, event: Event, error: Exception) -> None:
        self._log.error("listener_failed", of=type(event).__name__, error=str(error))
