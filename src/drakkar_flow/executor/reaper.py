"""Reaper: kills the programs of a worker that was killed by SIGKILL or by the kernel's memory killer.

A self-contained program, with the standard library only: `python -I -S warden.py WORKER MARK`. It waits for the end of
its parent, the process WORKER, then kills every process with MARK among its environment variables, with its process
group, and exits.

No signal goes to a pid, which may be reused. A process is opened first, then checked, and the signal goes to the
opened process: if the pid was reused in between, that process is gone and no other is hit.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["end_marked", "end_member", "environment_of", "is_marked", "pids"]

_PAUSE_S = 0.1
_QUIET_LOOKS = 3  # a process is without an environment, for a moment, while it becomes another program
_GIVE_UP_S = 30.0  # for processes that a dead disk blocks, or that multiply faster than they are killed


def is_marked(environment: bytes, mark: bytes) -> bool:
    """True if `mark` is one of the variables of an environment, as /proc shows it.

    >>> is_marked(b"HOME=/\\0DRAKKAR_RUN=12\\0", b"DRAKKAR_RUN=12")
    True
    >>> is_marked(b"HOME=/\\0DRAKKAR_RUN=123\\0", b"DRAKKAR_RUN=12")
    False
    """
    return mark in environment.split(b"\0")


def end_marked(mark: bytes) -> int:
    """Send SIGKILL to every marked process and the group it leads; returns the number of marked processes."""
    return sum(_end_with_group(pid, mark) for pid in pids() if is_marked(environment_of(pid), mark))


def _end_with_group(pid: int, mark: bytes) -> bool:
    with suppress(OSError), _opened(pid) as process:
        if not is_marked(environment_of(pid), mark):
            return False
        if os.getpgid(pid) == pid:  # members may have cleared their environment
            for member in pids():
                if member != pid and _group(member) == pid:
                    end_member(member, pid, process)
        signal.pidfd_send_signal(process, signal.SIGKILL)
    return True


def end_member(pid: int, group: int, leader: int) -> None:
    """Send SIGKILL to a member of a process group whose leader was opened and still lives."""
    with suppress(OSError), _opened(pid) as process:
        if os.getpgid(pid) == group:
            signal.pidfd_send_signal(leader, 0)  # raises if it is gone and `group` may be reused
            signal.pidfd_send_signal(process, signal.SIGKILL)


@contextmanager
def _opened(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def pids() -> list[int]:
    """The processes of this machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208


def environment_of(pid: int) -> bytes:
    """Return the variables of a process; empty for one that is gone, dead, or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123
            return file.readall()
    except OSError:
        return b""


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _wait_for_end(worker: int) -> None:
    with suppress(OSError), _opened(worker) as process:
        if os.getppid() == worker:  # otherwise it has ended already
            poll = select.poll()
            poll.register(process, select.POLLIN)
            poll.poll()


def _main(worker: int, mark: bytes) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a stopping worker may still be killed
        signal.signal(number, signal.SIG_IGN)
    _wait_for_end(worker)
    quiet, until = 0, time.monotonic() + _GIVE_UP_S
    while quiet < _QUIET_LOOKS and time.monotonic() < until:
        quiet = 0 if end_marked(mark) else quiet + 1
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    _main(int(sys.argv[1]), os.fsencode(sys.argv[2]))
