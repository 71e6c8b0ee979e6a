"""The workers of a run: `drakkar-flow run` as processes, each in a process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

__all__ = ["Workers"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STOP_TIMEOUT_S = 60.0


class Workers:
    """Starts, kills and stops workers; a context manager that leaves none behind.

    Args:
        environment: the variables that drakkar.yaml names.
        output: the directory of their logs.
    """

    def __init__(self, environment: Mapping[str, str], output: Path) -> None:
        self._environment = {**os.environ, **environment, "SEARCH_PROGRAM": str(HERE / "search.sh")}
        self._environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._output = output
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def start(self) -> str:
        """Start one more worker; returns its name."""
        self._started += 1
        name = f"worker-{self._started}"
        command = [sys.executable, "-m", "drakkar_flow.cli.main", "run", str(HERE / "handler.py")]
        with (self._output / f"{name}.out").open("wb") as out:
            self._running[name] = subprocess.Popen(
                [*command, "--config", str(HERE / "drakkar.yaml")],
                cwd=self._output,
                env={**self._environment, "WORKER_ID": name},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        return name

    def kill(self) -> str:
        """End the first worker as a crash would (SIGKILL); returns its name."""
        name = next(iter(self._running))
        process = self._running.pop(name)
        process.kill()
        process.wait()
        return name

    def ended(self) -> dict[str, int]:
        """The exit codes of workers that ended by themselves."""
        return {name: code for name, process in self._running.items() if (code := process.poll()) is not None}

    def stop(self) -> dict[str, int]:
        """Stop all workers in an orderly way (SIGTERM); returns their exit codes, which should be 0."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in list(self._running.items()):
            try:
                codes[name] = process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
            del self._running[name]
        return codes
