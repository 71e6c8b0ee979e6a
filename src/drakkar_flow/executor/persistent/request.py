"""Request: a task on its way through the pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from drakkar_flow.executor.base import Done, Running
from drakkar_flow.executor.priority import Ticket
from drakkar_flow.model.task import ExecutorTask

__all__ = ["Request", "RequestHolder"]


class RequestHolder(Protocol):
    """The child that has a request, as the request and the pool see it."""

    number: int

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    def give_up(self, request: Request) -> None:
        """Handle an abandoned request."""
        ...


class Request:
    """Result of `submit`: the position of the task, and its callback.

    `done` is None after it was called. `child` is set while a child has the task, `elsewhere` if the
    one-shot executor has it, `ticket` while it waits.
    """

    __slots__ = ("_cancel", "child", "done", "elsewhere", "id", "priority", "sent_at", "submitted_at", "task", "ticket")

    def __init__(
        self, task: ExecutorTask, priority: object, done: Done, now: float, cancel: Callable[[Request], None]
    ) -> None:
        self.task = task
        self.priority = priority
        self.done: Done | None = done
        self.submitted_at = now
        self.sent_at = 0.0
        self.id = 0
        self.child: RequestHolder | None = None
        self.elsewhere: Running | None = None
        self.ticket: Ticket | None = None
        self._cancel = cancel

    def cancel(self) -> None:
        """Abandon the task; does nothing after its end."""
        if self.done is not None:
            self._cancel(self)

    @property
    def queue_wait_s(self) -> float:
        """Seconds for which the task waited for a child; 0 if it never reached one."""
        return max(0.0, self.sent_at - self.submitted_at)

    @property
    def slot(self) -> int:
        """Number of the child that has the task; -1 without one."""
        return self.child.number if self.child is not None else -1

    def state(self) -> str:
        """Position of the task, for people."""
        if self.done is None:
            return "has ended"
        if self.elsewhere is not None:
            return self.elsewhere.state()
        now = time.monotonic()
        if self.child is not None:
            return f"child {self.child.number}, pid {self.child.pid}, has it for {now - self.sent_at:.1f} s"
        return f"waits for a child for {now - self.submitted_at:.1f} s"
