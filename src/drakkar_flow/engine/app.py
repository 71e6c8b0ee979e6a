"""DrakkarApp: a handler and a configuration file, run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from drakkar_flow.config.load import load_config
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.runner import StreamingRunner
from drakkar_flow.errors import ProblemsError
from drakkar_flow.graph.handler import BaseDrakkarHandler

__all__ = ["DrakkarApp"]


class DrakkarApp:
    """Runs a handler: `DrakkarApp(MyHandler(), "drakkar.yaml").run()`.

    Without `config` the file is read, then the environment; with it, neither.
    """

    def __init__(
        self,
        handler: BaseDrakkarHandler[Any, Any],
        config_path: str | Path | None = None,
        config: DrakkarConfig | None = None,
    ) -> None:
        self.handler = handler
        self._config_path = config_path
        self._config = config

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; ends the process with 1 after a failure and 2 for bad configuration."""
        try:
            config = self._config or load_config(self._config_path)
            exit_code = StreamingRunner(self.handler, config).run()
        except ProblemsError as exc:
            print(exc, file=sys.stderr)
            exit_code = exc.exit_code
        if exit_code:
            raise SystemExit(exit_code)
