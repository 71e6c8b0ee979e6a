"""The line that ordered work waits in: which key a record goes by, and whose task is next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from drakkar_flow.kernel.ordering import Keys, Ordering, Turns
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.steps.windows import TaskRun

__all__ = ["KeysOf", "Line", "keys_of"]

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


class Line:
    """Starts runs when it is their turn: those that share a key one at a time, in the order they entered.

    A run keeps its place through retries, and hands it on to the tasks that replace it: they go one
    after the other before anybody else of its keys; those of a run without keys wait for nobody either.
    """

    def __init__(self, start: Callable[[TaskRun], None]) -> None:
        self._start = start
        self._turns = Turns[TaskRun]()
        self._heirs: dict[TaskRun, deque[TaskRun]] = {}  # by the run that has the turn now
        self._next: deque[TaskRun] = deque()
        self._starting = False

    def is_free(self, run: TaskRun) -> bool:
        """Whether nobody would be overtaken if `run` was over at once."""
        return self._turns.is_free(run.keys)

    def enter(self, run: TaskRun) -> None:
        """Get a run in line; `serve` starts it when it is its turn."""
        self._turns.enter(run, run.keys)

    def leave(self, run: TaskRun, heirs: Sequence[TaskRun] = ()) -> None:
        """Note that a run is over; its place goes to `heirs` first."""
        left = self._heirs.pop(run, None)
        for heir in heirs:
            heir.keys = run.keys
        if heirs and run.keys:
            left = deque((*heirs, *(left or ())))
        elif heirs:
            for heir in heirs:
                self._turns.enter(heir)
        if left:
            heir = left.popleft()
            self._heirs[heir] = left
            self._next.append(heir)
        else:
            self._turns.leave(run.keys)
        self.serve()

    def serve(self) -> None:
        """Start everybody whose turn it is.

        A run that is over at once makes room inside the loop: that goes on here, not one call deeper.
        """
        if self._starting:
            return
        self._starting = True
        try:
            while (run := self._next.popleft() if self._next else self._turns.next()) is not None:
                self._start(run)
        finally:
            self._starting = False
