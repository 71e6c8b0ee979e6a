"""Init process of a container: forwards signals to the worker, reaps orphans, ends with the worker's exit code.

A separate program that needs only the standard library: `python -I -S init.py WORKER`. It is PID 1, and WORKER is the
process id of its child. All signals are blocked before it starts, so that none is lost.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

_OF_TERMINALS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def main(worker: int) -> int:
    """Run until the worker has ended; returns its exit code, 128 + N after signal N."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if SIGCHLD is ignored the exit code is lost
    while True:
        if (exit_code := _reap(worker)) is not None:
            return exit_code
        received = signal.sigwaitinfo(signal.valid_signals())
        # Signals of a terminal have reached the worker as well, which is in the same process group.
        is_sent = received.si_code <= 0
        if is_sent and received.si_signo != signal.SIGCHLD and received.si_signo not in _OF_TERMINALS:
            os.kill(worker, received.si_signo)


def _reap(worker: int) -> int | None:
    """Reap every child that has ended; return the exit code of the worker if it is one of them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
