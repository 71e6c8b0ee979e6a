"""Runs one subprocess to completion: pipes, deadline, kill, reap. Blocks the thread that calls `Child.run`."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from drakkar_flow.executor.capture import Capture
from drakkar_flow.executor.spawn import Environment, Spawner
from drakkar_flow.kernel.shortage import shortage_of

__all__ = ["Command", "LaunchError", "ProgramEnd", "ProgramRun", "RunLimits"]

LINGER_S: Final = 0.25
"""Seconds in which leftover processes may hold a program's pipes after its end, before they are killed."""

QUIET_S: Final = 0.005
"""Seconds in which only the end of a program is awaited. Most have ended by then, and their output is read in one
piece instead of one wake-up per piece; a program that fills a pipe meanwhile waits that long, once."""

_READ_BYTES: Final = 65536  # capacity of a pipe
_ATOMIC_BYTES: Final = 4096  # bytes that an empty pipe accepts without blocking, whatever the kernel's limits
_SHORT_S: Final = 0.01  # between two attempts to get a descriptor for a running program
_LONGEST_WAIT_S: Final = 3600.0  # poll() counts milliseconds in an int


class LaunchError(Exception):
    """A program can't be started; the cause is chained."""


@dataclass(slots=True)
class Command:
    """A command to start; `stdin` None stands for an empty one."""

    path: str
    args: list[str]
    env: Environment
    stdin: bytes | None


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Seconds of a run, seconds to read a killed one, and bytes of output kept (0 = all)."""

    timeout_s: float
    grace_s: float
    stdout_bytes: int
    stderr_bytes: int


@dataclass(slots=True)
class ProgramEnd:
    """End of a run: `exit_code` is -N after signal N; `started_at` is on the monotonic clock."""

    pid: int
    exit_code: int
    timed_out: bool
    stdout: Capture
    stderr: Capture
    started_at: float
    spawn_s: float


class ProgramRun:
    """A program that runs once. `run` blocks its thread; `kill` may come from any thread at any time.

    After `run`, in every case, the program is reaped, its process group killed and every descriptor
    closed. A program that moved to another session is not followed: its pipes are abandoned
    `grace_s` after the kill, and the output so far is flagged as truncated.
    """

    __slots__ = (
        "_dying", "_exited", "_killed", "_limits", "_lock", "_outputs", "_pid", "_pidfd", "_poll", "_stdin", "_unsent",
        "_until", "spawn_s",
    )  # fmt: skip

    def __init__(self, limits: RunLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._killed = False
        self._pid = 0
        self._pidfd = -1
        self._stdin = -1
        self._unsent = memoryview(b"")
        self._outputs: dict[int, Capture] = {}
        self._poll = select.poll()
        self._exited = False
        self._dying = False
        self._until = 0.0
        self.spawn_s = 0.0
        """Seconds of the last start, 0 if there was none."""

    @property
    def pid(self) -> int:
        """The pid of the program while it runs, else 0."""
        return self._pid

    def kill(self) -> None:
        """Kill the program and its group, now or after its start."""
        with self._lock:
            self._killed = True
            if self._pid:
                self._signal(os.killpg)
                self._signal(os.kill)  # in case it left its group

    def run(
        self, command: Command, spawner: Spawner, dev_null: int, on_started: Callable[[], None] | None = None
    ) -> ProgramEnd:
        """Start the program, feed it, read it to the end, reap it; `on_started` is called when it runs.

        Raises:
            LaunchError: if the program can't be started; `run` may be called again then.
        """
        stdout, stderr = Capture(self._limits.stdout_bytes), Capture(self._limits.stderr_bytes)
        try:
            started_at = time.monotonic()
            pid = self._start(command, spawner, dev_null, stdout, stderr)
            spawned_at = time.monotonic()
            self.spawn_s = spawned_at - started_at
            if on_started is not None:
                on_started()
            timed_out = self._watch(spawned_at + self._limits.timeout_s)
        finally:
            self._close_all()
            status = self._reap()
        return ProgramEnd(pid, status, timed_out, stdout, stderr, started_at, self.spawn_s)

    # Starting

    def _start(self, command: Command, spawner: Spawner, dev_null: int, stdout: Capture, stderr: Capture) -> int:
        theirs: list[int] = []
        try:
            stdin = dev_null if command.stdin is None else self._stdin_pipe(command.stdin, theirs)
            descriptors = (stdin, self._output_pipe(stdout, theirs), self._output_pipe(stderr, theirs))
            pid = spawner.spawn(command.path, command.args, command.env, descriptors)
        except (OSError, ValueError, TypeError) as exc:
            raise LaunchError(f"can't start {command.path!r}: {exc}") from exc
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._adopt(pid)
        return pid

    def _adopt(self, pid: int) -> None:
        with self._lock:
            self._pid = pid
            if self._killed:
                self._signal(os.killpg)
        self._pidfd = self._opened(pid)
        self._poll.register(self._pidfd, select.POLLIN)

    def _opened(self, pid: int) -> int:
        """Open the descriptor that signals the program's end; it runs already, so a shortage is retried."""
        until = time.monotonic() + self._limits.timeout_s
        while True:
            try:
                return os.pidfd_open(pid)
            except OSError as exc:
                if not shortage_of(exc) or self._killed or time.monotonic() >= until:
                    raise LaunchError(f"can't watch the program with pid {pid}: {exc}") from exc
            time.sleep(_SHORT_S)

    def _stdin_pipe(self, data: bytes, theirs: list[int]) -> int:
        unsent = memoryview(data)
        read_end, write_end = os.pipe()
        theirs.append(read_end)
        if len(unsent) <= _ATOMIC_BYTES:  # all of it before the program runs: one wake-up less
            os.write(write_end, unsent)
            os.close(write_end)
        else:
            os.set_blocking(write_end, False)
            self._stdin, self._unsent = write_end, unsent
            self._poll.register(write_end, select.POLLOUT)
        return read_end

    def _output_pipe(self, capture: Capture, theirs: list[int]) -> int:
        read_end, write_end = os.pipe()
        theirs.append(write_end)
        self._outputs[read_end] = capture
        return write_end

    # Watching

    def _watch(self, deadline: float) -> bool:
        """Serve the pipes until the program ended and its pipes are closed; True after a timeout."""
        self._until = deadline
        timed_out = False
        self._wait(min(QUIET_S, self._limits.timeout_s))
        for descriptor in self._outputs:
            self._poll.register(descriptor, select.POLLIN)
        while self._outputs or not self._exited:
            left = self._until - time.monotonic()
            if left <= 0:
                if self._dying:
                    self._wait(0)  # remaining output in the pipes
                    self._wait(0)  # and their end, however late this thread runs
                    break
                timed_out = not self._exited
                self._die()
                continue
            self._wait(min(left, _LONGEST_WAIT_S))
        for capture in self._outputs.values():
            capture.truncated = True
        return timed_out

    def _wait(self, seconds: float) -> None:
        for descriptor, event in self._poll.poll(seconds * 1000):
            if descriptor == self._pidfd:
                self._note_exit()
            elif descriptor == self._stdin:
                self._feed()
            else:
                self._read(descriptor, event)

    def _note_exit(self) -> None:
        self._exited = True
        self._poll.unregister(self._pidfd)
        if self._killed:
            self._die()
        else:  # other processes of its group may still write: a short grace
            self._until = min(self._until, time.monotonic() + LINGER_S)

    def _die(self) -> None:
        """Kill the remaining processes and give their pipes `grace_s` to close."""
        self._dying = True
        self._until = time.monotonic() + self._limits.grace_s
        self.kill()

    def _feed(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._stdin, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the program does not read its stdin: no failure
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._poll.unregister(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def _read(self, descriptor: int, event: int) -> None:
        if event & select.POLLIN and (data := os.read(descriptor, _READ_BYTES)):
            self._outputs[descriptor].add(data)
            return
        self._poll.unregister(descriptor)
        del self._outputs[descriptor]
        os.close(descriptor)

    # Ending

    def _signal(self, kill: Callable[[int, int], None]) -> None:
        """Send SIGKILL; the lock is held and the program not reaped, so its pid is not reused."""
        try:
            kill(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # gone already, or reused by another user
            return

    def _close_all(self) -> None:
        for descriptor in (self._stdin, self._pidfd, *self._outputs):
            if descriptor >= 0:
                os.close(descriptor)
        self._outputs.clear()
        self._poll = select.poll()
        self._stdin = self._pidfd = -1

    def _reap(self) -> int:
        """Kill the rest of the group and reap the program; the pid gets no signal afterwards."""
        with self._lock:
            if not self._pid:
                return 0
            self._signal(os.killpg)
            pid, self._pid = self._pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
