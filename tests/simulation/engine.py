"""Engine of the simulation: runs a compiled dataflow as one Bytewax worker does, an operator at a time.

What it takes from Bytewax 0.21:

- Items keep their order between two operators.
- A source is not polled in an epoch before all operators have closed the one before.
- A snapshot is taken of each key that was touched in the epoch, and those of an epoch are on disk together.
- Operators end in stream order when their input has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink

from simulation.scheduler import Scheduler

__all__ = ["Engine", "Rows"]

Rows = dict[tuple[str, str], Any]
"""Snapshots by step and key."""

_PAST = datetime(2000, 1, 1, tzinfo=UTC)


class _Operator:
    """One operator and the batches that wait for it."""

    is_active = False
    """True if it may have work without a batch."""

    def __init__(self, step_id: str) -> None:
        self.step_id = step_id
        self.inbox: deque[list[Any]] = deque()
        self.below: list[_Operator] = []
        self.above = 0
        self.ended = False
        self.touched: dict[str, None] = {}

    def emit(self, items: list[Any]) -> None:
        """Give items to the operators below."""
        if items:
            for each in self.below:
                each.inbox.append(items)

    def activate(self) -> bool:
        """Work on one batch; returns True if anything was done."""
        if self.inbox:
            self.on_batch(self.inbox.popleft())
            return True
        if self.above == 0 and not self.ended:
            self.end()
            return True
        return False

    def end(self) -> None:
        """End: the input has ended."""
        self.on_eof()
        self.ended = True
        for each in self.below:
            each.above -= 1

    def on_batch(self, items: list[Any]) -> None:
        """Take a batch."""

    def on_eof(self) -> None:
        """Note that the input has ended."""

    def snapshots(self) -> Iterator[tuple[str, Any]]:
        """Return the snapshots of the keys that were touched."""
        yield from ()


class _Source(_Operator):
    is_active = True

    def __init__(self, step_id: str, part: Any) -> None:
        super().__init__(step_id)
        self._part = part
        self.polls = True

    def activate(self) -> bool:
        """Poll the source, unless the epoch is about to end."""
        if self.ended or not self.polls:
            return False
        try:
            items = self._part.next_batch()
        except StopIteration:
            self.end()
            return True
        self.emit(items)
        return bool(items)


class _FlatMap(_Operator):
    def __init__(self, step_id: str, mapper: Callable[[list[Any]], Any]) -> None:
        super().__init__(step_id)
        self._mapper = mapper

    def on_batch(self, items: list[Any]) -> None:
        self.emit(list(self._mapper(items)))


class _Merge(_Operator):
    def on_batch(self, items: list[Any]) -> None:
        self.emit(items)


class _Stateful(_Operator):
    is_active = True

    def __init__(self, step_id: str, builder: Callable[[Any], Any], rows: Rows) -> None:
        super().__init__(step_id)
        self._builder = builder
        self._logics = {key: builder(row) for (step, key), row in rows.items() if step == step_id}
        self._due: dict[str, None] = {}
        for key in self._logics:
            self._look(key)

    def activate(self) -> bool:
        """Call what is due, with the next batch if there is one."""
        if not self._due:
            return super().activate()
        due = list(self._due)
        did = super().activate()
        for key in due:
            if key in self._logics:
                self._answered(key, *self._logics[key].on_notify())
                did = did or bool(self.below and self.below[0].inbox)
        return did

    def on_batch(self, items: list[Any]) -> None:
        by_key: dict[str, list[Any]] = {}
        for key, value in items:
            by_key.setdefault(key, []).append(value)
        for key, values in sorted(by_key.items()):
            if key not in self._logics:
                self._logics[key] = self._builder(None)
            self._answered(key, *self._logics[key].on_batch(values))

    def on_eof(self) -> None:
        for key, logic in list(self._logics.items()):
            self._answered(key, *logic.on_eof())

    def _answered(self, key: str, items: list[Any], is_complete: bool) -> None:
        self.touched[key] = None
        self.emit([(key, item) for item in items])
        if is_complete:
            del self._logics[key]
            self._due.pop(key, None)
        else:
            self._look(key)

    def _look(self, key: str) -> None:
        """Note if a logic wants to be called at once."""
        at = self._logics[key].notify_at()
        if at is None or at >= _PAST:
            self._due.pop(key, None)
        else:
            self._due.setdefault(key)

    def snapshots(self) -> Iterator[tuple[str, Any]]:
        for key in self.touched:
            yield key, self._logics[key].snapshot() if key in self._logics else None


class _Output(_Operator):
    def __init__(self, step_id: str, part: Any) -> None:
        super().__init__(step_id)
        self._part = part

    def on_batch(self, items: list[Any]) -> None:
        self._part.write_batch(items)

    def on_eof(self) -> None:
        self._part.close()


class _Parts(_Operator):
    def __init__(self, step_id: str, sink: Any, rows: Rows) -> None:
        super().__init__(step_id)
        self._sink = sink
        self._names: list[str] = sorted(sink.list_parts())
        found = {key: row for (step, key), row in rows.items() if step == step_id}
        self._parts = {key: sink.build_part(step_id, key, row) for key, row in found.items()}

    def on_batch(self, items: list[Any]) -> None:
        by_part: dict[str, list[Any]] = {}
        for key, value in items:
            by_part.setdefault(key, []).append(value)
        for key, values in sorted(by_part.items()):
            if key not in self._parts:
                self._parts[key] = self._sink.build_part(self.step_id, key, None)
            self.touched[key] = None
            self._parts[key].write_batch(values)

    def on_eof(self) -> None:
        for part in self._parts.values():
            part.close()

    def snapshots(self) -> Iterator[tuple[str, Any]]:
        for key in self.touched:
            yield key, self._parts[key].snapshot()


class Engine:
    """Runs `dataflow` from the rows of the last execution; `write` puts the rows of an epoch on disk at once."""

    def __init__(
        self,
        dataflow: Dataflow,
        scheduler: Scheduler,
        epoch_s: float,
        rows: Rows,
        write: Callable[[Rows], None],
    ) -> None:
        self._scheduler = scheduler
        self._epoch_s = epoch_s
        self._write = write
        self._operators = _operators(dataflow, rows)
        self._next = 0
        self._epoch_ends = scheduler.now + epoch_s
        self._skipped = False  # an operator was left out in this turn, or did something
        self._idle_since = -1  # the number of changes at which a whole turn did nothing
        self.ended = False
        """True if every operator has ended and the last rows are on disk."""

    def is_ready(self) -> bool:
        """Return False if nothing has changed since a whole turn did nothing, or the dataflow has ended."""
        return self._idle_since != self._scheduler.changes and not self.ended

    def step(self) -> bool:
        """Activate the next operator that has something to do; returns False at the end of a turn without any."""
        if self.ended:
            return False
        changes, chance = self._scheduler.changes, self._scheduler.chance
        for number in range(self._next, len(self._operators)):
            operator = self._operators[number]
            if not (operator.is_active or operator.inbox or (operator.above == 0 and not operator.ended)):
                continue
            if chance.random() < 0.1:  # in the next turn
                self._skipped = True
            elif operator.activate():
                self._next = number + 1
                self._skipped = True
                return True
        skipped, self._next, self._skipped = self._skipped, 0, False
        if self._turn_over():
            return True
        if not skipped and changes == self._scheduler.changes:
            self._idle_since = changes
        return False

    def _turn_over(self) -> bool:
        """Begin the next turn, at the end of the epoch with its snapshots."""
        if self._scheduler.now < self._epoch_ends and not self._operators[-1].ended:
            return False
        ending = all(operator.ended for operator in self._operators)
        if not ending and self._scheduler.now < self._epoch_ends:
            return False
        self._set_polls(False)
        if not ending and any(operator.inbox for operator in self._operators):
            return True
        rows: Rows = {}
        for operator in self._operators:
            for key, row in operator.snapshots():
                rows[operator.step_id, key] = row
            operator.touched = {}
        self._scheduler.note("engine: the epoch ends, {} rows", len(rows))
        self._scheduler.interrupt()
        if self._scheduler.ended:
            return True
        self._write(rows)
        self._epoch_ends = self._scheduler.now + self._epoch_s
        self._set_polls(True)
        self.ended = ending
        return True

    def _set_polls(self, polls: bool) -> None:
        for operator in self._operators:
            if isinstance(operator, _Source):
                operator.polls = polls


def _operators(dataflow: Dataflow, rows: Rows) -> list[_Operator]:
    """Return the operators in stream order, joined by their streams."""
    by_stream: dict[str, _Operator] = {}
    made: list[_Operator] = []
    for each in dataflow.substeps:
        operator = _made(each, rows)
        for name in each.ups_names:
            port = getattr(each, name)
            for stream in port.stream_ids.values() if hasattr(port, "stream_ids") else [port.stream_id]:
                by_stream[stream].below.append(operator)
                operator.above += 1
        for name in each.dwn_names:
            by_stream[getattr(each, name).stream_id] = operator
        operator.above = operator.above or (1 if isinstance(operator, _Source) else 0)
        made.append(operator)
    return made


def _made(operator: Any, rows: Rows) -> _Operator:
    kind = type(operator).__name__
    step_id = operator.step_id
    if kind == "input":
        return _Source(step_id, operator.source.build(step_id, 0, 1))
    if kind == "flat_map_batch":
        return _FlatMap(step_id, operator.mapper)
    if kind == "merge":
        return _Merge(step_id)
    if kind == "stateful_batch":
        return _Stateful(step_id, operator.builder, rows)
    if kind == "output" and isinstance(operator.sink, FixedPartitionedSink):
        return _Parts(step_id, operator.sink, rows)
    if kind == "output":
        return _Output(step_id, operator.sink.build(step_id, 0, 1))
    raise NotImplementedError(f"the simulation knows no operator {kind}")
