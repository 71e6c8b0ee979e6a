"""Supervisor: starts the processes of a cluster on this host, and starts all again when one has failed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from drakkar_flow.kernel.backoff import Backoff

__all__ = ["Supervisor", "end_with_supervisor"]

_LOOK_S = 0.1
_GRACE_S = 20.0  # for the others to notice that one has ended, before they are sent SIGTERM
_KILL_S = 60.0  # for a process to end after SIGTERM, before it is killed
_STABLE_S = 60.0  # a run this long resets the pauses
_WRONG_CONFIGURATION = 2
_PAUSES = Backoff(initial_s=1.0, max_s=30.0)
_VARIABLE = "DRAKKAR_SUPERVISOR"  # process number of the supervisor, for its processes
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def end_with_supervisor() -> None:
    """Let this process get SIGTERM when the supervisor that started it ends, also by SIGKILL; else do nothing.

    Call it on the main thread, before the configuration is read. Linux only: elsewhere the processes go on.
    """
    supervisor = os.environ.pop(_VARIABLE, "")
    if not supervisor or not sys.platform.startswith("linux"):
        return
    import ctypes  # a third of this module's imports, and rarely needed

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):  # it ended before
        os.kill(os.getpid(), signal.SIGTERM)


class Supervisor:
    """Runs `count` processes until all end cleanly, or a signal stops them; use it on the main thread.

    SIGTERM and SIGINT go to every process, each time they arrive. A process that fails ends the cluster: when all have
    ended, all are started again, after a pause that doubles from 1 to 30 s. A wrong configuration is not tried again.
    If the supervisor itself is killed, its processes drain and end.

    Args:
        command: arguments of `drakkar-flow` for every process; `-i` and `-a` are added.
        count: number of processes.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = list(command)
        self._count = count
        self._stopping = False
        self._signals: deque[int] = deque()  # to be passed on
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """Run the cluster and return the exit code: 0 after a clean end, else that of a failed process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        failures = 0
        while True:
            began_at = time.monotonic()
            self._start()
            codes = self._wait()
            code = _exit_code(codes)
            if code in (0, _WRONG_CONFIGURATION) or self._stopping:
                return code
            failures = 1 if time.monotonic() - began_at >= _STABLE_S else failures + 1
            pause_s = _PAUSES.ceiling_s(failures)
            ended = ", ".join(map(str, codes))
            print(f"drakkar-flow: exit codes {ended}; all processes start again in {pause_s:g} s", file=sys.stderr)
            deadline = time.monotonic() + pause_s
            while time.monotonic() < deadline:
                if self._signals:
                    return code
                time.sleep(_LOOK_S)

    def _start(self) -> None:
        addresses = ";".join(_free_addresses(self._count))
        self._processes = []
        for process in range(self._count):
            place = ["-i", str(process), "-a", addresses] if self._count > 1 else ["--set", "runtime.cluster=null"]
            command = [sys.executable, "-m", "drakkar_flow", *self._command, *place]
            # A separate group: Ctrl-C in a terminal would reach it a second time, which aborts it.
            env = {**os.environ, _VARIABLE: str(os.getpid())}
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, env=env))

    def _wait(self) -> list[int]:
        """Wait for the end of all, and pass signals on; those that outlive a failed one are stopped, then killed."""
        left = deque([(_GRACE_S, signal.SIGTERM), (_GRACE_S + _KILL_S, signal.SIGKILL)])
        failed_at: float | None = None
        while any(process.poll() is None for process in self._processes):
            time.sleep(_LOOK_S)
            while self._signals:
                self._stopping = True
                self._send(self._signals.popleft())
            if failed_at is None:
                failed_at = time.monotonic() if any(process.poll() for process in self._processes) else None
            elif left and time.monotonic() - failed_at >= left[0][0]:
                self._send(left.popleft()[1])
        return [process.returncode for process in self._processes]

    def _send(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)


def _exit_code(codes: Sequence[int]) -> int:
    """Return the exit code of a cluster: a wrong configuration first; a signal counts as a failure.

    >>> _exit_code([0, 0]), _exit_code([1, 2]), _exit_code([0, -9])
    (0, 2, 1)
    """
    if _WRONG_CONFIGURATION in codes:
        return _WRONG_CONFIGURATION
    return max((1 if code < 0 else code for code in codes), default=0)


def _free_addresses(count: int) -> list[str]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
