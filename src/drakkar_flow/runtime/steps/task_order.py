"""Task order, a per-key FIFO: the keys of a record, and the queue of ordered tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from drakkar_flow.kernel.ordering import KeyedQueue, Keys, Ordering
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.steps.windows import TaskRun

__all__ = ["KeysOf", "TaskOrder", "keys_of"]

KeysOf = Callable[[Record], Keys]
"""Ordering keys of a record: none or one."""


def keys_of(ordering: Ordering, function: Callable[[Record], Hashable | None] | None = None) -> KeysOf | None:
    """Return the function that returns a record's keys; None disables ordering.

    Keys are scoped to one partition: only there offsets have an order, and only there it holds when other processes
    share the work. A record without a key, or whose `function` returns None, waits for no other record.
    """
    if ordering == "unordered":
        return None
    if ordering == "partition":
        return lambda record: ((record.topic, record.partition),)
    if function is None:
        return lambda record: () if record.key is None else ((record.topic, record.partition, record.key),)

    def by_function(record: Record) -> Keys:
        key = function(record)
        hash(key)  # a value that can't be a key fails here, where it is the user's error
        return () if key is None else ((record.topic, record.partition, key),)

    return by_function


class TaskOrder:
    """Starts runs in their turn: runs that share a key run one at a time, in the order they entered.

    A run keeps its place through retries, and hands it on to its replacements. They run one after the other before
    later runs of its keys. Replacements of a run without keys do not wait either.
    """

    def __init__(self, start: Callable[[TaskRun], None]) -> None:
        self._start = start
        self._keyed_queue = KeyedQueue[TaskRun]()
        self._heirs: dict[TaskRun, deque[TaskRun]] = {}  # by the run that has the turn now
        self._next: deque[TaskRun] = deque()
        self._starting = False

    def is_free(self, run: TaskRun) -> bool:
        """Return True if `run` would overtake no other run if it was over at once."""
        return self._keyed_queue.is_free(run.keys)

    def put(self, run: TaskRun) -> None:
        """Queue a run; `serve` starts it when it is its turn."""
        self._keyed_queue.put(run, run.keys)

    def release(self, run: TaskRun, replacements: Sequence[TaskRun] = ()) -> None:
        """Note that a run is over; its place goes to `replacements` first."""
        left = self._heirs.pop(run, None)
        for replacement in replacements:
            replacement.keys = run.keys
        if replacements and run.keys:
            left = deque((*replacements, *(left or ())))
        elif replacements:
            for replacement in replacements:
                self._keyed_queue.put(replacement)
        if left:
            replacement = left.popleft()
            self._heirs[replacement] = left
            self._next.append(replacement)
        else:
            self._keyed_queue.release(run.keys)
        self.serve()

    def serve(self) -> None:
        """Start every run whose turn it is.

        A run that is over at once makes room inside the loop: that continues here, not one call deeper.
        """
        if self._starting:
            return
        self._starting = True
        try:
            while (run := self._next.popleft() if self._next else self._keyed_queue.next()) is not None:
                self._start(run)
        finally:
            self._starting = False
