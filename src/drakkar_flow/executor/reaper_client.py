"""Reaper client: starts a reaper process that kills our programs if this process dies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final
from uuid import uuid4

from drakkar_flow.kernel.shortage import shortage_of
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import ExecutorUnguarded

__all__ = ["MARK", "Reaper"]

MARK: Final = "DRAKKAR_RUN"
"""The environment variable that marks the programs of an executor."""
_AGAIN_S: Final = 1.0  # between two attempts to start the reaper during a shortage
_REAPER: Final = Path(__file__).absolute().with_name("reaper.py")


class Reaper:
    """Owns the reaper of one executor: a small process that kills its programs when this process is gone.

    The reaper shares no descriptor, session or environment with this process, and costs a program only a variable. If
    it can't be started, or was killed, ExecutorUnguarded is emitted and the executor continues. A start that fails by a
    shortage of descriptors or processes is tried again. Used on the event loop thread.
    """

    def __init__(self, bus: Bus) -> None:
        self.variables = {MARK: uuid4().hex}
        """The variables that mark every program."""
        self._bus = bus
        self._started = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._again: asyncio.TimerHandle | None = None
        self._is_short = False

    def start(self) -> None:
        """Start the reaper; called before the first program, repeated calls do nothing."""
        if self._started:
            return
        self._started = True
        self._again = None
        loop = asyncio.get_running_loop()
        try:
            self._process = self._spawn()
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as exc:
            self.close()
            if shortage_of(exc):
                self._started = False
                self._again = loop.call_later(_AGAIN_S, self.start)
            if not self._is_short:
                self._bus.emit(ExecutorUnguarded(f"the reaper can't be started: {exc}"))
            self._is_short = not self._started
        else:
            self._is_short = False
            loop.add_reader(self._pidfd, self._lost)

    def close(self) -> None:
        """End the reaper after the caller has ended all programs. Safe to call twice."""
        if self._again is not None:
            self._again.cancel()
        if self._process is not None:
            self._process.kill()
            self._let_go(self._process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        marks = [f"{name}={value}" for name, value in self.variables.items()]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _REAPER, str(os.getpid()), *marks],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name.startswith("LD_")},
            start_new_session=True,
        )

    def _lost(self) -> None:
        if self._process is not None:
            exit_code = self._let_go(self._process)
            self._bus.emit(ExecutorUnguarded(f"the reaper ended with {exit_code}"))

    def _let_go(self, process: subprocess.Popen[bytes]) -> int:
        self._process = None
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        return process.wait()
