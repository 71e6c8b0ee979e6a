"""The line that ordered work waits in: which key a record goes by, and whose task is next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from drakkar_flow.kernel.ordering import KeyedQueue, Keys, Ordering
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.steps.windows import TaskRun

__all__ = ["KeysOf", "TaskOrder", "keys_of"]

KeysOf = Callable[[Record], Keys]
"""What a record must not overtake others in: nothing or one key."""


def keys_of(ordering: Ordering, function: Callable[[Record], Hashable | None] | None = None) -> KeysOf | None:
    """The function that tells a record's keys; None when nothing is ordered.

    Keys are of one partition, whatever they are: only there offsets have an order, and only there
    it holds when other processes share the work. A record without a key, or whose `function`
    returns None, waits for nobody.
    """
    if ordering == "unordered":
        return None
    if ordering == "partition":
        return lambda record: ((record.topic, record.partition),)
    if function is None:
        return lambda record: () if record.key is None else ((record.topic, record.partition, record.key),)

    def by_function(record: Record) -> Keys:
        key = function(record)
        hash(key)  # what can't be one is told here, where it is the user's error
        return () if key is None else ((record.topic, record.partition, key),)

    return by_function


class TaskOrder:
    """Starts runs when it is their turn: those that share a key one at a time, in the order they entered.

    A run keeps its place through retries, and hands it on to the tasks that replace it: they go one
    after the other before anybody else of its keys; those of a run without keys wait for nobody either.
    """

    def __init__(self, start: Callable[[TaskRun], None]) -> None:
        self._start = start
        self._keyed_queue = KeyedQueue[TaskRun]()
        self._heirs: dict[TaskRun, deque[TaskRun]] = {}  # by the run that has the turn now
        self._next: deque[TaskRun] = deque()
        self._starting = False

    def is_free(self, run: TaskRun) -> bool:
        """Whether nobody would be overtaken if `run` was over at once."""
        return self._keyed_queue.is_free(run.keys)

    def put(self, run: TaskRun) -> None:
        """Get a run in line; `serve` starts it when it is its turn."""
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
        """Start everybody whose turn it is.

        A run that is over at once makes room inside the loop: that goes on here, not one call deeper.
        """
        if self._starting:
            return
        self._starting = True
        try:
            while (run := self._next.popleft() if self._next else self._keyed_queue.next()) is not None:
                self._start(run)
        finally:
            self._starting = False
