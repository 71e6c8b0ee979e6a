"""Forked children: removes the flow's signal handlers and listening sockets, and ends a child that returns to the flow.

A child that `os.fork` makes in a hook has a copy of everything. It must end with `os._exit` or execute another program.
A child that returns from the hook would run as a second worker with the sockets of the first, so it ends at once.
Children of `multiprocessing` do not return; they also end when this process has ended.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import util
from typing import Any, NoReturn, Protocol

__all__ = ["Forkable", "end_child", "forget", "remember"]

_COMES_BACK = "drakkar-flow: a forked process returned from a hook and was ended; end it with os._exit()"
_open: list[Forkable] = []
_left: list[Forkable] = []  # in a child: the owners that have released theirs


class Forkable(Protocol):
    """Owner of resources that a forked child must release."""

    def disown(self) -> None:
        """Release them; called in the child, on its only thread."""


def remember(owner: Forkable) -> None:
    """Call `owner.disown` in every child that is forked from now on."""
    _open.append(owner)


def forget(owner: Forkable) -> None:
    """Remove an owner; safe to call twice."""
    if owner in _open:
        _open.remove(owner)


def end_child(cause: object = None, *_others: Any) -> NoReturn:
    """End a forked child that returned, with the code of the SystemExit in `cause`, or 1 without one."""
    error = getattr(cause, "exception", cause)
    code = 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        print(_COMES_BACK, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _in_child() -> None:
    for owner in _open:
        owner.disown()
    _left[:] = _open
    _open.clear()


def _end_with_parent(_owner: object) -> None:
    """Kill this child of multiprocessing when the process of the flow has ended."""
    parent = multiprocessing.parent_process()
    if not _left or parent is None or parent.pid is None:
        return
    with suppress(OSError, RuntimeError):  # no descriptor or thread left: the child ends as without this library
        descriptor = os.pidfd_open(parent.pid)
        if os.getppid() != parent.pid:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=_await_end, args=(descriptor,), name="drakkar-parent", daemon=True).start()


def _await_end(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGKILL)


os.register_at_fork(after_in_child=_in_child)
util.register_after_fork(sys.modules[__name__], _end_with_parent)
