"""Forks: takes from a forked child what belongs to the flow: signal handlers, listening sockets, the way back into it.

A child that `os.fork` makes in a hook has a copy of everything. It must end by `os._exit` or become another program;
one that comes back from the hook would go on as a second worker with the first one's sockets, so it ends at once.
Children of `multiprocessing` never come back; they also end when this process is gone.
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

_COMES_BACK = "drakkar-flow: a forked process came back from a hook and ends here; end it with os._exit()"
_open: list[Forkable] = []
_left: list[Forkable] = []  # in a child: what it has let go of


class Forkable(Protocol):
    """What a forked child must let go of."""

    def disown(self) -> None:
        """Let go; called in the child, on its only thread."""


def remember(owner: Forkable) -> None:
    """Have `owner` let go in every child that is forked from now on."""
    _open.append(owner)


def forget(owner: Forkable) -> None:
    """Do so no longer; safe to call twice."""
    if owner in _open:
        _open.remove(owner)


def end_child(cause: object = None, *_others: Any) -> NoReturn:
    """End a forked child that came back: with the code of its SystemExit where `cause` is or holds one, else with 1."""
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
    """In a child of multiprocessing that a flow's process made: be killed when that process is gone."""
    parent = multiprocessing.parent_process()
    if not _left or parent is None or parent.pid is None:
        return
    with suppress(OSError, RuntimeError):  # no descriptor or thread left: it ends as it would without us
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
