"""DrakkarApp: runs a handler with a configuration file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from drakkar_flow.config.loading.app import resolve_app
from drakkar_flow.config.loading.load import load_config
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.entrypoint import app_options
from drakkar_flow.engine.identity import cluster_name_of, summary_of, worker_id_of
from drakkar_flow.engine.runner import StreamingRunner
from drakkar_flow.errors import ProblemsError
from drakkar_flow.graph.handler import BaseDrakkarHandler
from drakkar_flow.kinds.executor import ExecutorSpec
from drakkar_flow.kinds.registry import EXECUTORS, SINKS
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.observe.listeners import Listener

__all__ = ["DrakkarApp"]


class DrakkarApp:
    """Runs a handler: `DrakkarApp(MyHandler(), "drakkar.yaml").run()`.

    Without `config` the configuration comes from the file and the environment; with it, neither is read. `worker_id`
    names this worker; the default is the value of the variable that `worker_name_env` names, then the process id.
    `sinks` and `executors` are the specs of user-defined kinds (`drakkar_flow.plugins`), which the configuration may
    then use. `listeners` receive the events of the run (`drakkar_flow.events`).

    >>> app = DrakkarApp(BaseDrakkarHandler(), config=DrakkarConfig(), worker_id="w-1")
    >>> app.worker_id, app.config.kafka.source_topic
    ('w-1', 'input-events')
    """

    def __init__(
        self,
        handler: BaseDrakkarHandler[Any, Any],
        config_path: str | Path | None = None,
        config: DrakkarConfig | None = None,
        worker_id: str = "",
        *,
        sinks: Sequence[SinkSpec] = (),
        executors: Sequence[ExecutorSpec] = (),
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._listeners = listeners
        SINKS.add(*sinks)
        EXECUTORS.add(*executors)
        self.handler = handler
        self._config_path = config_path
        self._config = config
        self._worker_id = worker_id

    @cached_property
    def config(self) -> DrakkarConfig:
        """Configuration, read at the first access.

        Raises:
            ConfigError: with every problem of the configuration.
        """
        options = app_options(self.handler)
        if self._config is not None:
            return resolve_app(self._config, options.get("app_model"))
        return load_config(self._config_path, **options)

    @property
    def worker_id(self) -> str:
        """Name of this worker in logs and metrics."""
        return worker_id_of(self.config, os.environ, self._worker_id)

    @property
    def config_summary(self) -> str:
        """Return the main settings in one line."""
        return summary_of(self.config, self.worker_id, cluster_name_of(self.config, os.environ))

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; ends the process with 1 after a failure and 2 for bad configuration."""
        try:
            exit_code = StreamingRunner(
                self.handler, self.config, worker_id=self.worker_id, listeners=self._listeners
            ).run()
        except ProblemsError as exc:
            print(exc, file=sys.stderr)
            exit_code = exc.exit_code
        if exit_code:
            raise SystemExit(exit_code)
