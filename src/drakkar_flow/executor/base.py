"""What an executor is: it runs one task and says how it ended."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

__all__ = ["Executor", "ExecutorStatistics", "Outcome"]


class ExecutorStatistics(NamedTuple):
    """A snapshot of an executor."""

    running: int
    """Programs that run now; never more than `slots`."""
    waiting: int
    """Tasks that wait for a slot."""
    slots: int
    """How many programs may run at once."""


Outcome = ExecutorResult | ExecutorError


class Executor(Protocol):
    """Runs tasks; every method is called on the event loop's thread."""

    async def start(self) -> None:
        """Get ready to run tasks; raises StartupError with what is missing."""
        ...

    async def run(self, task: ExecutorTask, priority: object = 0) -> Outcome:
        """Run `task` and return how it ended; a failed task is a value, never an exception.

        Waits for a free slot first; waiting tasks start by ascending `priority`, then in the order
        they came. A precomputed task takes no slot. Cancelling the call kills the program's
        process group, reaps it and frees the slot before CancelledError leaves.

        Raises:
            ExecutorClosed: when the executor is closing.
        """
        ...

    async def close(self) -> None:
        """Kill what still runs, reap it and end every thread; safe to call twice."""
        ...

    def statistics(self) -> ExecutorStatistics:
        """How much runs and waits now; callable from any thread."""
        ...
