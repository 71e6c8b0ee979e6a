"""StreamingRunner: runs a flow with a configuration, from a program or the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from bytewax.run import cli_main

from drakkar_flow.config.loading.app import resolve_app
from drakkar_flow.config.loading.load import from_mapping, load_config
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.entrypoint import app_options, listeners_of, stream_of
from drakkar_flow.engine.worker_process import EXIT_CLEAN, EXIT_FAILED, StoppedEarly, WorkerProcess
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.observe.listeners import Listener
from drakkar_flow.observe.metrics.statistics import StatisticsSnapshot

__all__ = ["RunnerOptions", "StreamingRunner"]


class RunnerOptions(TypedDict, total=False):
    """Options of a runner besides its flow and configuration."""

    own_signals: bool
    own_logging: bool
    worker_id: str
    listeners: Sequence[Listener]


class StreamingRunner:
    """Runs one flow in this process until a signal, `shutdown` or a failure ends it; use each runner once.

    By default SIGTERM and SIGINT drain the flow (if `run` is called on the main thread), and the configuration
    sets up logging. A program with its own signal handling or logging passes `own_signals=False`,
    `own_logging=False`, and calls `shutdown` from any thread. `worker_id` names this worker; the default is from
    the environment (`worker_name_env`). `listeners` receive the events of the run (`drakkar_flow.events`).
    """

    def __init__(
        self,
        flow: Any,
        config: DrakkarConfig,
        *,
        own_signals: bool = True,
        own_logging: bool = True,
        worker_id: str = "",
        listeners: Sequence[Listener] = (),
    ) -> None:
        config = resolve_app(config, app_options(flow).get("app_model"))
        self._life = WorkerProcess(
            stream_of(flow),
            config,
            own_logging=own_logging,
            own_signals=own_signals,
            worker_id=worker_id,
            listeners=[*listeners_of(flow), *listeners],
        )

    @classmethod
    def from_yaml(cls, flow: Any, path: str | Path, **options: Unpack[RunnerOptions]) -> StreamingRunner:
        """Make a runner from a YAML file and the environment.

        Raises:
            ConfigError: with every problem of the configuration.
        """
        return cls(flow, load_config(path, **app_options(flow)), **options)

    @classmethod
    def from_dict(cls, flow: Any, config: Mapping[str, Any], **options: Unpack[RunnerOptions]) -> StreamingRunner:
        """Make a runner from a mapping with the structure of the YAML file; the environment is not read.

        Raises:
            ConfigError: with every problem of the configuration.
        """
        return cls(flow, from_mapping(config, app_model=app_options(flow).get("app_model")), **options)

    @property
    def config(self) -> DrakkarConfig:
        """Effective configuration; `on_startup` may change it."""
        return self._life.config

    @property
    def flow(self) -> StreamFlow:
        """Flow of this runner."""
        return self._life.flow

    def run(self) -> int:
        """Run until the flow ends and return the exit code: 0 after a clean end, 1 after a failure.

        Raises:
            FlowError, ConfigError, StartupError: the flow can't start; no record was read.
        """
        life = self._life
        try:
            dataflow = life.start()
        except StoppedEarly:
            return EXIT_CLEAN
        try:
            cli_main(dataflow, **life.engine_options())  # type: ignore[no-untyped-call]
            life.stored()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # an error or a Rust panic of Bytewax itself
            life.engine_failed(exc)
            return EXIT_FAILED
        finally:
            life.close()
        return life.exit_code

    def shutdown(self) -> None:
        """Request a drain: intake stops, records in flight may finish, then `run` returns."""
        self._life.stop()

    def statistics(self) -> StatisticsSnapshot:
        """Return totals, rates and latencies since the start."""
        return self._life.statistics.snapshot()

    @property
    def failure(self) -> str | None:
        """Reason of a failed flow; None without a failure."""
        return self._life.failure

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics server; None without one."""
        return self._life.metrics_port
