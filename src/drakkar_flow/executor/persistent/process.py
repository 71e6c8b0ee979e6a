"""Long-lived process and its pipes on the event loop: no thread waits for it, no call blocks."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from drakkar_flow.executor.spawn import Environment, Spawner

__all__ = ["Listener", "Process", "Spawned", "spawn"]

_PIPE_BYTES = 256 * 1024  # more requests and answers per system call than the default of 64 KiB
_LAST_WORDS_BYTES = 4 * _PIPE_BYTES  # maximum read after a program's end, because its children may keep writing


class Spawned(NamedTuple):
    """A running program: its pid, a descriptor for its end, and our ends of its pipes."""

    pid: int
    pidfd: int
    stdin: int
    stdout: int
    stderr: int


class Listener(Protocol):
    """Callbacks of a process, on the loop thread."""

    def on_output(self, data: bytes) -> None:
        """Handle output on stdout."""

    def on_log(self, data: bytes) -> None:
        """Handle output on stderr."""

    def on_deaf(self) -> None:
        """Handle a closed stdin or stdout; the process may still run."""

    def on_end(self, exit_code: int) -> None:
        """Handle its end (-N after signal N): it was reaped, and all its output was passed on; the last call."""


def spawn(spawner: Spawner, path: str, args: Sequence[str], env: Environment) -> Spawned:
    """Start a program with three pipes; blocks until it runs.

    Raises:
        OSError, ValueError: if it can't be started; no descriptor is left open.
    """
    opened: list[int] = []
    theirs: list[int] = []
    try:
        for mine in (1, 0, 0):  # we write to stdin and read the others
            pipe = os.pipe()
            opened.append(pipe[mine])
            theirs.append(pipe[1 - mine])
            os.set_blocking(pipe[mine], False)
            with suppress(OSError):  # the system's limit for this user
                fcntl.fcntl(pipe[mine], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        pid = spawner.spawn(path, args, env, (theirs[0], theirs[1], theirs[2]))
        return Spawned(pid, _watched(pid), *opened)
    except BaseException:
        for descriptor in opened:
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)


def _watched(pid: int) -> int:
    """Open the descriptor for the end of a program; a program without one is killed."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


class Process:
    """Reads and writes a spawned program's pipes and reaps it; everything happens on the loop thread.

    All writes of one loop iteration go out in one system call. When the program ends, the rest of its
    process group is killed, its pipes are read to the end, and every descriptor is closed.
    """

    def __init__(self, spawned: Spawned, listener: Listener) -> None:
        self.pid = spawned.pid
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._stdin, self._stdout, self._stderr, self._pidfd = (
            spawned.stdin,
            spawned.stdout,
            spawned.stderr,
            spawned.pidfd,
        )
        self._unsent: list[bytes | memoryview] = []
        self._flush_pending = False
        self._writer_set = False
        self._closing_stdin = False
        self._loop.add_reader(self._stdout, self._read_stdout)
        self._loop.add_reader(self._stderr, self._read_stderr)
        self._loop.add_reader(self._pidfd, self._end)

    # --- called by the owner --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this loop iteration, or as soon as the program reads."""
        if self._stdin < 0:
            return
        self._unsent.append(data)
        if not self._flush_pending and not self._writer_set:
            self._flush_pending = True
            self._loop.call_soon(self._flush)

    def end_input(self) -> None:
        """Close its stdin after everything was written."""
        self._closing_stdin = True
        if not self._unsent:
            self._close_stdin()

    def kill(self) -> None:
        """Kill the program and its group; does nothing after its end."""
        if self._pidfd >= 0:  # not reaped, so its pid is not reused
            for kill in (os.killpg, os.kill):  # the second in case it left its group
                with suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """True if it was reaped: callbacks pass its remaining output."""
        return self._pidfd < 0

    def resident_bytes(self) -> int:
        """Its resident memory; 0 if unknown."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:  # noqa: PTH123
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0

    # --- pipes ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_pending = False
        if self._stdin < 0:
            return
        unsent = self._unsent
        data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
        try:
            sent = os.write(self._stdin, data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it does not read any more
            self._close_stdin()
            self._listener.on_deaf()
            return
        if sent < len(data):
            self._unsent = [memoryview(data)[sent:]]
            if not self._writer_set:
                self._writer_set = True
                self._loop.add_writer(self._stdin, self._flush)
            return
        unsent.clear()
        if self._writer_set:
            self._writer_set = False
            self._loop.remove_writer(self._stdin)
        if self._closing_stdin:
            self._close_stdin()

    def _close_stdin(self) -> None:
        self._unsent = []
        if self._stdin >= 0:
            if self._writer_set:
                self._writer_set = False
                self._loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def _read_stdout(self) -> None:
        if data := _read(self._stdout):
            self._listener.on_output(data)
        elif data is not None:
            self._close_stdout()
            self._listener.on_deaf()

    def _read_stderr(self) -> None:
        if data := _read(self._stderr):
            self._listener.on_log(data)
        elif data is not None:
            self._close_stderr()

    def _close_stdout(self) -> None:
        if self._stdout >= 0:
            self._loop.remove_reader(self._stdout)
            os.close(self._stdout)
            self._stdout = -1

    def _close_stderr(self) -> None:
        if self._stderr >= 0:
            self._loop.remove_reader(self._stderr)
            os.close(self._stderr)
            self._stderr = -1

    # --- the end --------------------------------------------------------------------------------

    def _end(self) -> None:
        """Handle the end of the program: kill the rest of its group."""
        self.kill()
        exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._close_stdin()
        for descriptor, hear in ((self._stderr, self._listener.on_log), (self._stdout, self._listener.on_output)):
            left = _LAST_WORDS_BYTES
            while left > 0 and descriptor >= 0 and (data := _read(descriptor)):
                left -= len(data)
                hear(data)
        self._close_stdout()
        self._close_stderr()
        self._listener.on_end(exit_code)


def _read(descriptor: int) -> bytes | None:
    """Read a pipe; empty at its end, None if there is no data yet."""
    try:
        return os.read(descriptor, _PIPE_BYTES)
    except BlockingIOError:
        return None
