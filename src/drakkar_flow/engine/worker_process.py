"""Worker process: start, drain and close of a flow in one process.

    start   logging -> loop -> on_startup -> metrics -> components -> connect everything -> on_ready ->
            periodic functions -> signals -> the common start, if configured -> read
    drain   a signal, `shutdown` or a failure stops the intake, periodic functions end; records in
            flight may finish within the drain budget; the source ends; Bytewax closes its sinks
    close   periodic functions -> the last commit, waited for, and on_revoke -> sinks, dead letters and
            executor side by side -> offload pool -> loop -> metrics -> logs

`StreamingRunner`, `drakkar-flow run` and `python -m bytewax.run` all use it. The part that the testing kit shares is in
`flow_lifecycle.py`; this module adds logging, metrics, signals and the stop guard.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from bytewax.dataflow import Dataflow

from drakkar_flow._version import __version__
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine import forks
from drakkar_flow.engine.build import build_parts, resolve_topics
from drakkar_flow.engine.cluster_process import ClusterProcess, cluster_problems, cluster_process_of
from drakkar_flow.engine.fixed_mode import FixedMode
from drakkar_flow.engine.flow_lifecycle import FlowLifecycle
from drakkar_flow.engine.gauges import read_gauges
from drakkar_flow.engine.group_state import state_store_of, state_topic_problems
from drakkar_flow.engine.identity import cluster_name_of, worker_id_of
from drakkar_flow.engine.memory import CollectorSettings
from drakkar_flow.engine.offline import source_problems
from drakkar_flow.engine.pid1 import leave_pid_1
from drakkar_flow.engine.signal_handlers import SignalHandlers
from drakkar_flow.engine.startup import Unreached, check_source, check_source_and_state, wait_for_common_start
from drakkar_flow.engine.stop_guard import StopGuard
from drakkar_flow.engine.streams import occupy_standard_descriptors
from drakkar_flow.engine.unused import missing_cache, unused_sinks
from drakkar_flow.engine.watchdog import Watchdog
from drakkar_flow.errors import ConfigError, Problem, ProblemsError, StartupError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.kernel.shortage import shortage_of
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.lifecycle import LogLineLost
from drakkar_flow.observe.http.health import Health, ProbeResponse, liveness, readiness
from drakkar_flow.observe.http.server import MetricsServer
from drakkar_flow.observe.listeners import Listener, Listeners
from drakkar_flow.observe.log.line import LogLine
from drakkar_flow.observe.log.listener import LogListener
from drakkar_flow.observe.log.progress import Progress, summary
from drakkar_flow.observe.log.setup import LoggingHandle, configure_logging
from drakkar_flow.observe.log.structured import structlog
from drakkar_flow.observe.metrics.collectors import RuntimeGauges
from drakkar_flow.observe.metrics.prometheus import Metrics
from drakkar_flow.observe.metrics.statistics import Statistics
from drakkar_flow.runtime.cluster.link import StartStopped
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.failures import describe, root_cause

if TYPE_CHECKING:
    from drakkar_flow.cache.service import CacheService
    from drakkar_flow.recorder.recorder import Recorder

__all__ = ["EXIT_ABORTED", "EXIT_CLEAN", "EXIT_FAILED", "StoppedEarly", "WorkerProcess"]

EXIT_CLEAN = 0
EXIT_FAILED = 1
EXIT_ABORTED = 130

_LISTENERS_S = 1.0  # for listeners of the program to handle their queued events
_RECORDER_S = 2.0  # for the recorder to seal its file; else the next start does it
_CACHE_S = 2.0  # for the cache to write the queued changes
_ABORT_S = 2.0  # for the executor to kill its children after a second signal


class StoppedEarly(BaseException):
    """Raised by `start` if SIGTERM, or the stop of another process of the cluster, ends it: no record was read."""


class WorkerProcess:
    """Starts and ends one flow. Use each instance once."""

    def __init__(
        self,
        flow: StreamFlow,
        config: DrakkarConfig,
        *,
        own_logging: bool,
        own_signals: bool,
        worker_id: str = "",
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.flow = flow
        self.config = resolve_topics(flow, config)
        self.statistics = Statistics()
        self._listeners = Listeners(listeners)
        self._given_worker_id = worker_id
        self._name_worker()
        self._own_logging = own_logging
        self._own_signals = own_signals
        self._log = structlog.get_logger("drakkar_flow")
        self._bus = Bus(self._listener_failed)
        self._loop_thread = EventLoopThread(self._bug)
        self._life = FlowLifecycle(flow, self._bus, self._loop_thread, self._log)
        self._logging: LoggingHandle | None = None
        self._log_listener: LogListener | None = None
        self._metrics = Metrics()
        self._health = Health()
        self._watchdog: Watchdog | None = None
        self._server: MetricsServer | None = None
        self._recorder: Recorder | None = None
        self._cache: CacheService | None = None
        self._progress: Progress | None = None
        self._guard: StopGuard | None = None
        self._collector = CollectorSettings(config.runtime.gc_threshold)
        self._handlers = SignalHandlers()
        self._signals = 0
        self._started = False
        self._ending = False
        self._start_stopped = False
        self._engine_failed = False
        self._fixed: FixedMode | None = None
        self._cluster: ClusterProcess | None = None

    # --- start ----------------------------------------------------------------------------------

    def start(self) -> Dataflow:
        """Start everything and return the dataflow to run.

        Raises:
            FlowError, ConfigError, StartupError: with every problem; nothing is left open.
            StoppedEarly: SIGTERM arrived before the flow was ready to read, or another process of the cluster was
                stopped then; nothing is left open.
            RuntimeError: the flow was started before.
        """
        if self._started:
            raise RuntimeError("the flow was started before: make a new runner to run it again")
        self._started = True
        if self._own_signals:
            leave_pid_1()
            occupy_standard_descriptors()
            self._handlers.watch_children()
            self._handlers.take({signal.SIGTERM: self._on_early_signal})
        forks.remember(self)
        try:
            return self._start()
        except StoppedEarly:
            self._close_stopped()
            raise
        except StartStopped as exc:
            self._log.info("start_stopped", reason=str(exc), expect="this process ends with exit code 0")
            self._close_stopped()
            raise StoppedEarly from None
        except BaseException as exc:
            if isinstance(exc, ProblemsError):
                exc.redact(self.config.redactor)
            self._close(str(exc))
            if lacks := shortage_of(exc) or shortage_of(exc.__cause__ or exc):
                remedy = "raise the limit of this process (ulimit, LimitNOFILE=, pids.max), or start it elsewhere"
                raise StartupError([Problem("host", f"lacks {lacks}: {exc}", remedy)]) from exc
            raise

    def _start(self) -> Dataflow:
        self.flow.check()
        self._open_logging()
        self._apply_on_startup()
        self._serve_metrics()
        for name, program in {"": self.config.executor, **self.config.executors}.items():
            if withheld := self.config.withheld_variables(os.environ, program):
                fields = {"executor": name} if name else {}
                expect = "programs do not inherit them"
                self._log.debug("environment_withheld", **fields, variables=withheld, expect=expect)
        components = self._build()
        self._metrics.watch(self._gauges)
        self._start_recorder()
        components = self._with_cache(components)
        self._metrics.describe_sinks((part.spec.kind, part.name) for part in components.sinks.values())
        self._log_outage_policies(components)
        if components.recovery is not None:
            self._cluster = cluster_process_of(self.config, self.flow.name, self._other_stopped, self._log)
            self._fixed = FixedMode(self.flow, self.config, components.recovery, self._log, self._cluster)
        interrupted = None if self._cluster is None else self._cluster.interrupted
        dataflow = self._life.prepare(components, self._source_check(components), interrupted)
        if self._own_signals:
            self._handlers.take({signal.SIGTERM: self._on_signal, signal.SIGINT: self._on_signal})
        if self.config.kafka.startup_align_enabled and not self._life.stop_early:
            self._loop_thread.run(wait_for_common_start(self.config.kafka, self._life.stop_asked, self._log))
        self._collector.apply()
        interval_s = self.config.logging.progress_interval_s
        self._progress = Progress(self.statistics.snapshot, self._gauges, self._write, interval_s)
        self._watchdog = Watchdog(components, self._progress.look)
        self._watchdog.start()
        if self._own_signals:
            self._guard = StopGuard(components.control, self._report_overdue, EXIT_FAILED)
            self._guard.start()
        if self._cluster is not None:
            self._cluster.begin(components.control)
        self._life.read()
        return dataflow

    def _source_check(self, components: Components) -> Callable[[Unreached], None]:
        """Return the check of the source, and of the place of the flow's state."""
        if self._fixed is not None:
            return self._fixed.check
        if components.state_topic is not None:
            return partial(check_source_and_state, components.state_topic, self.config.kafka, self._log)
        if state_store_of(self.flow, self.config) == "memory":
            expect = "state is lost with the assignment of its partition, so also with every restart"
            self._log.warning("state_in_memory", where="runtime.state.store", expect=expect)
        return partial(check_source, self.config.kafka)

    def _start_recorder(self) -> None:
        """Start the recorder; a worker that does not record has no need of its modules."""
        if self.config.debug.enabled:
            from drakkar_flow.engine.recording import recorder_of

            self._recorder = recorder_of(self.config, self.worker_id, self.cluster_name, self.flow.name, self._gauges)
            self._recorder.listen(self._bus)

    def _with_cache(self, components: Components) -> Components:
        """Open the cache; a worker without one has no need of its modules."""
        if not self.config.cache.enabled:
            return components
        from drakkar_flow.engine.caching import cache_of

        self._cache = cache_of(self.config, self.worker_id, self.cluster_name, self._bus)
        self._cache.start()
        return replace(components, cache=self._cache.cache)

    def _build(self) -> Components:
        missing = [*source_problems(self.flow, self.config), *state_topic_problems(self.flow, self.config)]
        missing += cluster_problems(self.config)
        try:
            components = build_parts(self.flow, self.config, self._bus, self._loop_thread, self.close)
        except ConfigError as exc:
            raise ConfigError([*missing, *exc.problems]) from None
        if missing:
            raise ConfigError(missing)
        return components

    def _apply_on_startup(self) -> None:
        """Apply the configuration that `on_startup` returns; logging is set up again if its settings changed."""
        for warning in self.flow.hooks.warnings:
            self._log.warning("handler_warning", reason=warning)
        before = self._logging_settings()
        self.config = resolve_topics(self.flow, self._life.open(self.config))
        self._name_worker()
        self._collector = CollectorSettings(self.config.runtime.gc_threshold)
        for problem in (*unused_sinks(self.flow, self.config), *missing_cache(self.flow, self.config)):
            self._log.warning("config_notice", where=problem.where, what=problem.what, remedy=problem.remedy)
        if self._logging is not None and self._logging_settings() != before:
            self._logging.close()
            self._logging = self._configure_logging()

    def _log_outage_policies(self, components: Components) -> None:
        """Log the sinks that hold deliveries during an outage, and those that dead-letter them."""
        policies = {
            part.id: self.config.sinks.circuit_of(part.settings).when_open for part in components.sinks.values()
        }
        fields = {policy: [sink for sink, mine in policies.items() if mine == policy] for policy in ("wait", "dlq")}
        expect = "during an outage the sinks under wait hold their deliveries, those under dlq dead-letter them"
        self._log.info("sinks_when_open", **{name: sinks for name, sinks in fields.items() if sinks}, expect=expect)

    def _name_worker(self) -> None:
        self.worker_id = worker_id_of(self.config, os.environ, self._given_worker_id)
        self.cluster_name = cluster_name_of(self.config, os.environ)

    def _open_logging(self) -> None:
        if self._own_logging:
            self._logging = self._configure_logging()
        for notice in self.config.notices:
            self._log.warning("config_notice", where=notice.where, what=notice.what, remedy=notice.remedy)
        self._log_listener = LogListener(self._log)
        self._log_listener.listen(self._bus)
        self.statistics.listen(self._bus)
        self._health.listen(self._bus)
        self._listeners.listen(self._bus)

    def _configure_logging(self) -> LoggingHandle:
        lost = partial(self._bus.emit, LogLineLost())
        return configure_logging(**self._logging_settings(), on_lost=lost)

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
            "levels": config.logging.levels,
            "redact": config.redactor,
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
                self._metrics.registry,
                host=config.metrics.host,
                ports=config.metrics.ports,
                pages=pages,
                on_error=self._page_failed,
            )
            self._server.start()
            served = {"host": config.metrics.host, "port": self._server.port, "paths": ["/metrics", *pages]}
            self._log.info("metrics_served", **served)

    def _serve_user_metrics(self) -> None:
        """Serve the prometheus_client metrics that are class attributes of the flow's handlers."""
        functions = [getattr(node, "fn", None) for node in self.flow.nodes]
        owners = {id(owner): owner for fn in functions if (owner := getattr(fn, "__self__", None)) is not None}
        found = [name for owner in owners.values() for name in self._metrics.add_user_metrics(owner)]
        if found:
            self._log.info("user_metrics_discovered", metrics=found)

    def engine_options(self) -> dict[str, Any]:
        """Return the arguments of Bytewax's `cli_main`, after `start`."""
        runtime = self.config.runtime
        if self._fixed is not None:
            return self._fixed.options()
        return {
            "workers_per_process": runtime.workers,
            "epoch_interval": timedelta(seconds=runtime.epoch_interval_s),
        }

    def stored(self) -> None:
        """Note that Bytewax has ended, so every row of the recovery store is on disk: the last commit may follow."""
        components = self._life.components
        if not self._engine_failed and components is not None and components.recovery is not None:
            components.recovery.durable(components.reader)

    # --- drain ----------------------------------------------------------------------------------

    def stop(self) -> bool:
        """Request a drain; returns True for the first request. Callable from any thread and from signal handlers."""
        return self._life.stop()

    def fail(self, reason: str) -> None:
        """Record the reason of a failure, unless there is one already."""
        if self._life.components is not None:
            self._life.components.control.fail(reason)

    def engine_failed(self, error: BaseException) -> None:
        """Record and log an `error` that Bytewax raised."""
        self._engine_failed = True
        cause = "" if self._cluster is None else self._cluster.cause_of_failure()
        text = describe(root_cause(error))
        reason = cause or f"the engine failed: {text if self._fixed is None else self._fixed.explained(text)}"
        trace = None if cause else error
        self._log.error("engine_failed", reason=reason, exc_info=trace, expect="uncommitted records are read again")
        self.fail(reason)

    def _on_early_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(EXIT_ABORTED)
        if not self._ending:  # else the start has failed: its close and its error must not be interrupted
            raise StoppedEarly

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 2:  # a third signal must not restart the abort
            self._abort()
        self.stop()

    def _abort(self) -> None:
        """Kill the children and exit at once, without another commit."""
        components = self._life.components
        if components is not None and components.executor is not None:
            try:
                self._loop_thread.run(components.executor.close(), _ABORT_S)
            except Exception as exc:  # the process ends anyway; for example the loop is blocked
                self._log.warning("abort_left_children", error=describe(exc), expect="they end after this process")
        os._exit(EXIT_ABORTED)

    def _other_stopped(self, failure: str) -> None:
        """Follow another process of the cluster: its stop is this one's, its failure too."""
        if failure:
            self.fail(failure)
        self.stop()

    # --- close ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close everything in order; safe to call twice and from any thread."""
        self._close("")

    def disown(self) -> None:
        """Release signals, port and flow in a forked child, where they belong to the worker."""
        self._handlers.disown()
        if self._server is not None:
            self._server.disown()
        if self._recorder is not None:
            self._recorder.disown()
        if self._cache is not None:
            self._cache.disown()
        self._life.disown(forks.end_child)

    def _close_stopped(self) -> None:
        """Close a flow whose start was stopped."""
        self._start_stopped = True
        self._close("")

    def _close(self, error: str) -> None:
        self._ending = True
        if self._watchdog is not None:
            self._watchdog.close()
        if self._cluster is not None:
            self._cluster.engine_ended()
        if self._life.close(error):
            if self._fixed is not None:
                self._fixed.close()
            if self._cluster is not None:
                self._cluster.close(error, stopped=self._start_stopped)
            forks.forget(self)
            self._collector.restore()
            self._handlers.restore()
            self._close_observers()

    def _report_overdue(self) -> None:
        self._log.error(
            "stop_overdue", expect="the process ends now with exit code 1; unfinished records are read again"
        )

    def _close_observers(self) -> None:
        if self._guard is not None:
            self._guard.close()
        if self._cache is not None:
            self._cache.close(_CACHE_S)
        self._listeners.close(_LISTENERS_S)
        if self._recorder is not None:
            self._recorder.close(_RECORDER_S)
        if self._server is not None:
            self._server.close()
        if self._progress is not None:
            self._write(summary(self.statistics.snapshot()))
        if self._log_listener is not None:
            self._log_listener.close()
        if self._logging is not None:
            self._logging.close()

    # --- state ----------------------------------------------------------------------------------

    @property
    def failure(self) -> str | None:
        """Reason of a failed flow, None without a failure; final after `close`."""
        return self._life.failure

    @property
    def exit_code(self) -> int:
        """Exit code: 0 after a clean end, 1 after a failure or a drain that exceeded its budget."""
        return EXIT_FAILED if self.failure else EXIT_CLEAN

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics server; None without one."""
        return self._server.port if self._server is not None else None

    def _gauges(self) -> RuntimeGauges:
        if self._life.components is None:
            return RuntimeGauges()
        health = self._watchdog.health if self._watchdog is not None else 0
        return read_gauges(self._life.components, self._life.hooks.pool, health)

    def _healthz(self) -> ProbeResponse:
        heartbeats = self._watchdog.heartbeats if self._watchdog is not None else {}
        return liveness(heartbeats, self.config.runtime.stuck_after_s)

    def _readyz(self) -> ProbeResponse:
        components, health = self._life.components, self._health.snapshot
        if components is not None and components.control.failure is not None:  # drains, then ends with 1
            health = replace(health, state="failed")
        return readiness(health)

    def _page_failed(self, error: Exception) -> None:
        expect = "only this response failed: a metric raised when it was read"
        self._write(
            LogLine("error", "metrics_scrape_failed", {"exc_info": error}, expect, (), cause_text(describe(error)))
        )

    def _bug(self, error: BaseException) -> None:
        if not shortage_of(error):
            expect = "the flow stops; report a bug, unless one of your hooks is in the stack"
            self._log.error("bug", exc_info=error, expect=expect)
        self.fail(f"bug, or a hook that ended the event loop: {type(error).__name__}: {error}")

    def _listener_failed(self, event: Event, error: Exception) -> None:
        name = type(event).__name__
        self._write(
            LogLine("error", "listener_failed", {"of": name, "error": describe(error)}, "the flow goes on", (name,))
        )

    def _write(self, line: LogLine) -> None:
        if self._log_listener is not None:
            self._log_listener.write(line)
