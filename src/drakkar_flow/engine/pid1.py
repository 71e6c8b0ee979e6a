"""PID 1: gives a worker that is the first process of its container an init process as its parent."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

__all__ = ["leave_pid_1"]

_INIT: Final = Path(__file__).with_name("init.py")


def leave_pid_1() -> None:
    """Continue as a child of PID 1 if this process is PID 1; otherwise do nothing.

    The process forks. The child continues with the state of this process; the parent becomes `init.py`. A fork with
    several threads is unsafe: then the child starts this program again from its command line.
    """
    if os.getpid() != 1 or not sys.executable:
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    if len(list(Path("/proc/self/task").iterdir())) == 1:
        child = os.fork()
    else:
        command = [sys.executable, *sys.orig_argv[1:]]
        child = os.posix_spawn(sys.executable, command, os.environ, setsigmask=before)
    if child:
        os.execv(sys.executable, [sys.executable, "-I", "-S", str(_INIT), str(child)])  # noqa: S606 - no shell is wanted
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
