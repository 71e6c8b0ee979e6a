"""A server that is one process: what PostgreSQL, Redis and MongoDB's protocol have in common here."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from scripts.servers.process import ServerError, ServerProcess, free_ports, tail, wait_until

__all__ = ["SingleServer"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


class SingleServer(ABC):
    """One server on a loopback port, with data that goes away when it stops.

    The data lies in the system's folder for temporary files, because a server that runs as another
    user must be able to reach it; the log lies in `directory`.
    """

    kind: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (self.port,) = free_ports(1)
        self.data = Path(tempfile.gettempdir()) / f"drakkar-{self.kind}-{self.port}"
        self.process: ServerProcess | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client is given to connect."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a request is answered."""

    @abstractmethod
    def prepare(self) -> list[str]:
        """Fill the empty data directory, and give the command line that serves it."""

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.directory / f"{self.kind}.log"

    def healthy(self) -> bool:
        """Whether its process runs and answers."""
        return self.process is not None and self.process.alive() and self.answers()

    def start(self) -> None:
        """Start it with no data.

        Raises:
            ServerError: it ended, or did not become ready.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        self.resume(self.prepare())

    def resume(self, argv: list[str]) -> None:
        """Start the process on the data that is there."""
        process = self.process = ServerProcess.spawn(argv, self.log)
        try:
            wait_until(lambda: not process.alive() or self.answers(), START_TIMEOUT_S, self.kind)
            if not process.alive():
                raise ServerError(f"{self.kind} ended")
        except BaseException as error:
            self.stop()
            if isinstance(error, ServerError):
                raise ServerError(f"{error}; its log {self.log} ends with:\n{tail(self.log)}") from None
            raise

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); its data stays as it is."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """End it and remove its data; harmless when it does not run."""
        if self.process is not None:
            ServerProcess.stop([self.process], STOP_TIMEOUT_S)
        self.process = None
        shutil.rmtree(self.data, ignore_errors=True)

    def members(self) -> list[dict[str, Any]]:
        """The one process, for a report."""
        pid = self.process.pid if self.process else None
        return [{"node": 1, "port": self.port, "pid": pid, "healthy": self.healthy(), "log": str(self.log)}]

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON values."""
        process = self.process and {"pid": self.process.pid, "started": self.process.started}
        return {"directory": str(self.directory), "port": self.port, "data": str(self.data), "process": process}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """The server that another program started; its process may be gone by now."""
        server = cls(Path(state["directory"]))
        server.port, server.data = state["port"], Path(state["data"])
        server.process = state["process"] and ServerProcess(**state["process"])
        return server
