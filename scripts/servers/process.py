"""One server process that outlives the program which started it, and is never mistaken for another."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ServerError", "ServerProcess", "free_ports", "tail", "wait_until"]

POLL_S = 0.05
PORTS = range(15_000, 32_000)
"""Below the ports that the kernel gives to clients: a client that keeps trying a stopped server's port
can be given that very port as its own, meets itself, and the server can't come back."""


class ServerError(Exception):
    """A server could not be started or did not become ready; the text says where its log is."""


@dataclass(frozen=True)
class ServerProcess:
    """A process by pid and start time, because pids are used again."""

    pid: int
    started: int
    """Clock ticks between boot and the start of the process."""

    @classmethod
    def spawn(cls, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> ServerProcess:
        """Start `argv` in a session of its own, with its output appended to `log`."""
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            dict(os.environ if env is None else env),
            file_actions=files,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
        )
        return cls(pid, _started(pid) or 0)

    def alive(self) -> bool:
        """Whether this very process still runs; reaps it when it ended and is our child."""
        started = _started(self.pid)
        if started not in (None, self.started):
            return False  # the pid is somebody else's by now
        try:
            # Of a child only this tells the truth: a process of many threads looks dead before the last has ended.
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return started is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it is gone."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, and return when it is gone."""
        self.send(signal.SIGKILL)
        wait_until(lambda: not self.alive(), 30, f"process {self.pid} to die")

    @staticmethod
    def stop(processes: Iterable[ServerProcess], timeout_s: float) -> None:
        """End processes together: SIGTERM, then SIGKILL for those that are still there after `timeout_s`."""
        left = list(processes)
        for process in left:
            process.send(signal.SIGTERM)
        with suppress(ServerError):
            wait_until(lambda: not any(process.alive() for process in left), timeout_s, "servers to stop")
        for process in left:
            process.kill()


def _started(pid: int) -> int | None:
    """When `pid` started, in ticks since boot; None if there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until `condition` holds.

    Raises:
        ServerError: when it does not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"waited {timeout_s:g} s for {what}")
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody listens on."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(PORTS, len(PORTS)):
            if len(held) == count:
                break
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", port))
                held.append(candidate)
            except OSError:
                candidate.close()
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"
