"""Folder: events of one file become rows of its tables, within the budget of each table. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final
from zlib import compress

import msgspec

from drakkar_flow.kernel.redaction import MASK, is_sensitive
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.executor import (
    ExecutorBreakerChanged,
    ExecutorUnguarded,
    HostLimitLow,
    HostShortage,
)
from drakkar_flow.observe.events.hooks import HookRan, HooksRan, Offloaded, PeriodicRan
from drakkar_flow.observe.events.lifecycle import DrainFinished, StateChanged
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.observe.events.sinks import (
    DeadLettersWritten,
    DeliveriesSkipped,
    DeliveriesWritten,
    SinkCircuitChanged,
)
from drakkar_flow.observe.events.source import (
    AssignmentAwaited,
    BrokerStateChanged,
    Committed,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
    RecordsKnownFinished,
    RecordsTraced,
    TopicRecreated,
)
from drakkar_flow.observe.events.stalls import LoopAnswered, Stalled, StallEnded
from drakkar_flow.observe.events.state import StateRestored, StateStartDecided
from drakkar_flow.observe.events.tasks import (
    TaskAttempt,
    TaskAttempts,
    TaskFinished,
    TaskRetried,
    TasksCompleted,
    TasksPrecomputed,
    TasksStarted,
    WindowFinished,
)
from drakkar_flow.recorder.fold.captured import Outputs, Trouble
from drakkar_flow.recorder.fold.faults import FaultFolder
from drakkar_flow.recorder.fold.keys import Keys
from drakkar_flow.recorder.fold.names import Names, storable
from drakkar_flow.recorder.fold.samples import Budget, SlowTasks, TaskSampler, id_hash, is_sampled, traced_in
from drakkar_flow.recorder.fold.spans import SpanFolder
from drakkar_flow.recorder.fold.ticks import TickFolder
from drakkar_flow.recorder.schema import COLUMNS, TABLES

__all__ = ["HOT", "LIFE", "Batch", "Folder", "Gauges", "Memory", "redacted"]

Batch = dict[str, list[tuple[Any, ...]]]
"""Rows by table."""

Gauges = Mapping[tuple[str, str], float]
"""Values now, by kind and text of their name."""

_EVENTS_PER_S = 1_000
_TASKS_PER_S = 5_000
_KEPT_TASKS_PER_S = 10_000  # failed, retried and slow ones that are kept beyond the sample
_TRACES_PER_S = 50
_OUTPUT_BYTES_PER_S = 2 * 1024 * 1024
_MAX_OPEN_TRACES = 5_000
_MAX_TEXT = 4_096
_MAX_PROGRAMS = 1_000
_STATUS = {"completed": 0, "failed": 1, "cancelled": 2}


class Memory:
    """State that outlives a file: budgets, the p99 of programs, traced records that are not finished."""

    def __init__(self, trace_every: int = 0) -> None:
        self.trace_every = trace_every
        self.events = Budget(_EVENTS_PER_S)
        self.kept_tasks = Budget(_KEPT_TASKS_PER_S)
        self.traces = Budget(_TRACES_PER_S)
        self.outputs = Budget(_OUTPUT_BYTES_PER_S)
        self.sampler = TaskSampler(_TASKS_PER_S)
        self.slow = SlowTasks()
        self.traced: dict[TopicPartition, dict[int, int]] = {}  # offset -> when it was read
        self.blocks: dict[TopicPartition, tuple[int, int]] = {}  # begin of the last block, its traced offset
        self.dropped: Counter[str] = Counter()


class Folder:
    """Folds the events of one file. Texts pass `redact` before they become part of a row."""

    def __init__(self, memory: Memory, redact: Callable[[str], str] = str, min_task_s: float = 0.0) -> None:
        self._memory = memory
        self._redact = redact = _storing(redact)
        self._min_task_s = min_task_s
        self._names = Names()
        self._ticks = TickFolder()
        self._spans = SpanFolder()
        self._faults = FaultFolder(redact)
        self._keys = {table: Keys() for table in TABLES if COLUMNS[table][0] == "key"}
        self._rows: Batch = {table: [] for table in TABLES}
        self._programs: dict[tuple[str, ...], tuple[str, int]] = {}
        self._partitions: dict[TopicPartition, int] = {}
        self._prefixes: dict[TopicPartition, str] = {}
        self._latest = 0

    def add(self, item: object, us: int) -> None:
        """Fold an event, or its capture, that happened at `us` microseconds of the wall clock."""
        self._latest = max(self._latest, us)
        fold = HOT.get(type(item))
        if fold is not None:
            fold(self, item, us, us // 1_000_000)
        elif isinstance(item, Event):
            (self._life if type(item) in LIFE else self._other)(item, us)

    def gauges(self, values: Gauges, us: int) -> None:
        """Add the values of gauges."""
        for (kind, text), value in values.items():
            self._ticks.add(us // 1_000_000, self._names.id(kind, text), 1, 0, value, value)

    def note(self, kind: str, detail: Mapping[str, Any], us: int) -> None:
        """Add an event of the recorder itself."""
        self._event(kind, us, detail=detail)

    def take(self, *, spans: bool = True, all_spans: bool = False) -> Batch:
        """Return the rows since the last call, the changed ones of ticks and faults again.

        Without `spans` these grow until the next call; `all_spans` returns more than the budget.
        """
        batch, self._rows = self._rows, {table: [] for table in TABLES}
        batch["ticks"] = [*self._ticks.take(before=self._latest // 1_000_000 - 2)]
        for row in self._spans.take(*((None,) if all_spans else ())) if spans else ():
            us = max(row.read_to_us, row.passed_us, 0) or self._latest
            number = self._partition_id(row.topic_partition)
            batch["spans"].append((self._keys["spans"].next(us), number, *row[1:]))
        batch["faults"] = [*self._faults.take()]
        batch["names"] = [*self._names.take()]
        return batch

    # --- counted ----------------------------------------------------------------------------------

    def _count(self, second: int, kind: str, text: str, n: int, size: int = 0) -> None:
        if n:
            self._ticks.add(second, self._names.id(kind, text), n, size)

    def _timed(self, second: int, kind: str, text: str, duration_s: float, times: int = 1) -> None:
        self._ticks.timed(second, self._names.id(kind, text), (duration_s,), times)

    def _consumed(self, event: RecordsConsumed, us: int, second: int) -> None:
        at = event.topic_partition
        self._count(second, "read", _text(at), event.count, event.size)
        if event.first >= 0:
            self._spans.read(at, event.epoch, event.first, event.last, event.count, event.size, us)
            for offset in traced_in(at, event.first, event.last, self._memory.trace_every):
                self._begin_trace(at, offset, us)

    def _known_finished(self, event: RecordsKnownFinished, us: int, second: int) -> None:
        self._count(second, "known_finished", _text(event.topic_partition), event.count)

    def _traced(self, event: RecordsTraced, us: int, second: int) -> None:
        for offset in event.offsets:
            self._begin_trace(event.topic_partition, offset, us)

    def _finished(self, event: RecordsFinished, us: int, second: int) -> None:
        for status, count in (("done", event.done), ("skipped", event.skipped), ("dead", event.dead)):
            self._count(second, "finished", status, count)
        finished = event.done + event.skipped + event.dead
        if event.oldest_latency_s is not None and finished:
            self._timed(second, "latency", "record", event.oldest_latency_s, finished)
        for topic_partition, epoch, count in event.assignments:
            self._spans.finished(topic_partition, epoch, count)
        for topic_partition, epoch, offset in event.watermarks:
            self._spans.passed(topic_partition, epoch, offset, us)
            if open_traces := self._memory.traced.get(topic_partition):
                self._end_traces(topic_partition, open_traces, offset, us)

    def _revoked(self, event: PartitionsRevoked, us: int, second: int) -> None:
        for topic_partition in event.topic_partitions:  # the next owner has their records
            self._memory.traced.pop(topic_partition, None)
        self._life(event, us)

    def _committed(self, event: Committed, us: int, second: int) -> None:
        self._count(second, "commits", "", len(event.offsets))

    def _hook(self, event: HookRan, us: int, second: int) -> None:
        if event.duration_s is not None:
            self._timed(second, "hook", event.hook, event.duration_s)

    def _hooks(self, event: HooksRan, us: int, second: int) -> None:
        if event.count:
            self._timed(second, "hook", event.hook, event.duration_s / event.count, event.count)

    def _periodic(self, event: PeriodicRan, us: int, second: int) -> None:
        self._timed(second, "periodic", event.name, event.duration_s)

    def _offloaded(self, event: Offloaded, us: int, second: int) -> None:
        self._timed(second, "offload", event.hook, event.duration_s)

    def _loop(self, event: LoopAnswered, us: int, second: int) -> None:
        self._timed(second, "loop", "", event.after_s)

    def _window(self, event: WindowFinished, us: int, second: int) -> None:
        self._timed(second, "window", "", event.duration_s)

    def _written(self, event: DeliveriesWritten, us: int, second: int) -> None:
        sink = f"{event.sink_type}:{event.sink_name}"
        self._count(second, "sink", sink, event.count)
        self._timed(second, "write", sink, event.duration_s)

    def _dead_letters(self, event: DeadLettersWritten, us: int, second: int) -> None:
        self._count(second, "dead_letters", "", event.count)
        self._other(event, us)

    def _retried(self, event: TaskRetried, us: int, second: int) -> None:
        self._count(second, "task", "retried", 1)
        self._other(event, us)

    def _started(self, event: TasksStarted, us: int, second: int) -> None:
        self._count(second, "task", "started", event.count)

    def _skipped(self, event: DeliveriesSkipped, us: int, second: int) -> None:
        self._count(second, "skipped", f"{event.sink_type}:{event.sink_name}", event.count)
        self._other(event, us)

    def _task_finished(self, event: TaskFinished, us: int, second: int) -> None:
        self._count(second, "task", event.status, 1)
        if event.status != "cancelled":
            self._timed(second, "run", event.executor_name, event.duration_s)
        self._timed(second, "queue_wait", event.executor_name, event.queue_wait_s)
        if event.spawn_s:
            self._timed(second, "spawn", event.executor_name, event.spawn_s)

    def _tasks_completed(self, event: TasksCompleted, us: int, second: int) -> None:
        self._count(second, "task", "completed", len(event.durations_s))
        self._ticks.timed(second, self._names.id("run", event.executor_name), event.durations_s)
        self._ticks.timed(second, self._names.id("queue_wait", event.executor_name), event.queue_waits_s)

    def _precomputed(self, event: TasksPrecomputed, us: int, second: int) -> None:
        self._count(second, "task", "precomputed", event.count)

    # --- tasks and traces -------------------------------------------------------------------------

    def _attempts(self, event: TaskAttempts, us: int, second: int) -> None:
        memory, rows = self._memory, self._rows["tasks"]
        n = memory.sampler.begin(second, len(event.attempts))
        for attempt in event.attempts:
            at, offset = attempt.topic_partition, attempt.offset
            label, program = self._programs.get(attempt.program) or self._program(attempt.program)
            slow = memory.slow.is_slow(label, attempt.duration_s)
            traced = self._is_traced(at, offset)
            if traced:
                self._trace(at, offset, "task", us, attempt.duration_s)
            if slow or traced or attempt.attempt > 1 or attempt.status == "failed":
                if not memory.kept_tasks.take(second):
                    memory.dropped["tasks"] += 1
                    continue
                weight = 1
            elif attempt.duration_s < self._min_task_s or (n > 1 and not is_sampled(offset, n)):
                continue
            else:
                weight = n
            rows.append(self._task_row(attempt, program, weight, us))

    def _program(self, program: tuple[str, ...]) -> tuple[str, int]:
        label = self._redact(": ".join(filter(None, program)))
        if len(self._programs) >= _MAX_PROGRAMS:
            self._programs.clear()
        known = self._programs[program] = (label, self._names.id("program", label))
        return known

    def _task_row(self, attempt: TaskAttempt, program: int, weight: int, us: int) -> tuple[Any, ...]:
        at, task_id, parent = attempt.topic_partition, attempt.task_id, attempt.parent
        return (
            self._keys["tasks"].next(us),
            self._partition_id(at),
            attempt.offset,
            attempt.last,
            self._task_id(task_id, at),
            id_hash(task_id),
            program,
            attempt.slot,
            attempt.pid,
            attempt.attempt,
            _STATUS[attempt.status],
            attempt.exit_code,
            int(attempt.queue_wait_s * 1e6),
            int(attempt.spawn_s * 1e6),
            int(attempt.duration_s * 1e6),
            weight,
            None if parent is None else self._task_id(parent, at),
        )

    def _task_id(self, task_id: str, at: TopicPartition) -> str:
        """Return an id as it is written; one that the library made of a record has no secret."""
        prefix = self._prefixes.get(at)
        if prefix is None:
            prefix = self._prefixes[at] = f"{_text(at)}:" if at[0].isascii() else "\0"
        if task_id.startswith(prefix) and task_id[len(prefix) :].replace("-", "").isdecimal():
            return task_id
        return self._redact(task_id[:_MAX_TEXT])

    def _begin_trace(self, at: TopicPartition, offset: int, us: int) -> None:
        open_traces = self._memory.traced.setdefault(at, {})
        if offset in open_traces:  # by its header, and by its number
            return
        if len(open_traces) >= _MAX_OPEN_TRACES or not self._memory.traces.take(us // 1_000_000):
            self._memory.dropped["traces"] += 1
            return
        open_traces[offset] = us
        self._trace(at, offset, "read", us, 0.0)

    def _end_traces(self, at: TopicPartition, open_traces: dict[int, int], watermark: int, us: int) -> None:
        for offset in [offset for offset in open_traces if offset < watermark]:
            self._trace(at, offset, "finished", us, (us - open_traces.pop(offset)) / 1e6)

    def _trace(self, at: TopicPartition, offset: int, step: str, us: int, took_s: float) -> None:
        key, number = self._keys["traces"].next(us), self._names.id("step", step)
        self._rows["traces"].append((key, self._partition_id(at), offset, number, int(took_s * 1e6), None))

    def _is_traced(self, at: TopicPartition, offset: int) -> bool:
        memory, every = self._memory, self._memory.trace_every
        if (open_traces := memory.traced.get(at)) and offset in open_traces:
            return True
        begin, found = memory.blocks.get(at, (-1, -1))
        if every and not begin <= offset < begin + every:
            begin = offset - offset % every
            (found,) = traced_in(at, begin, begin + every - 1, every)
            memory.blocks[at] = (begin, found)
        return offset == found

    # --- kept one by one --------------------------------------------------------------------------

    def _trouble(self, item: Trouble, us: int, second: int) -> None:
        fault = item.fault
        self._count(second, "failed", f"{fault.kind}:{fault.stage}", item.count)
        if item.timed is not None:
            self._timed(second, *item.timed)
        number: int | None = None
        if item.consequence:
            weight = self._faults.weight(fault, us)
        else:
            number, weight = self._faults.add(fault, us, item.count)
        if not weight:  # others stand for it
            return
        if not self._memory.events.take(second):
            self._memory.dropped["events"] += 1
            return
        self._event(item.kind, us, item.about, number, weight, item.detail)

    def _outputs(self, item: Outputs, us: int, second: int) -> None:
        for stream, kept, size in item.streams:
            data = compress(self._redact(kept.decode(errors="replace")).encode(), 1)
            if not self._memory.outputs.take(second, len(data)):
                self._memory.dropped["outputs"] += 1
                return
            key, number = self._keys["outputs"].next(us), self._names.id("stream", stream)
            task = self._redact(item.task_id[:_MAX_TEXT])
            self._rows["outputs"].append((key, id_hash(item.task_id), task, number, size, data))

    def _other(self, event: Event, us: int) -> None:
        if self._memory.events.take(us // 1_000_000):
            self._life(event, us)
        else:
            self._memory.dropped["events"] += 1

    def _life(self, event: Event, us: int) -> None:
        about = getattr(event, "about", None)
        names = [name for name in event.__struct_fields__ if name != "about"]
        detail = {name: getattr(event, name) for name in names}
        self._event(_snake(type(event).__name__), us, about, detail=detail)

    def _event(
        self,
        kind: str,
        us: int,
        about: EventContext | None = None,
        fault: int | None = None,
        weight: int = 1,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        detail = {} if detail is None else redacted(detail, self._redact)
        partition_id = offset = task = None
        at = detail.get("topic_partition")
        if about is not None and about.records:
            topic, partition, offset = about.records[0]
            partition_id = self._partition_id((topic, partition))
            if len(about.records) > 1:
                detail = {**detail, "records": about.records, "records_total": about.total}
        elif at:
            partition_id, offset = self._partition_id((at[0], at[1])), detail.get("offset")
        if about is not None and about.tasks:
            task = about.tasks[0]
        task = detail.get("task_id") if task is None else self._redact(task[:_MAX_TEXT])
        number = self._names.id("event", kind)
        text = msgspec.json.encode(detail, enc_hook=repr).decode()
        key = self._keys["events"].next(us)
        self._rows["events"].append((key, number, partition_id, offset, fault, task, weight, text))
        for topic, partition, other in about.records[1:] if about is not None else ():
            step = self._names.id("step", "event")
            place = (self._keys["traces"].next(us), self._partition_id((topic, partition)), other)
            self._rows["traces"].append((*place, step, 0, key))

    def _partition_id(self, at: TopicPartition) -> int:
        number = self._partitions.get(at)
        if number is None:
            number = self._partitions[at] = self._names.id("topic_partition", _text(at))
        return number


HOT: Final[dict[type, Callable[[Folder, Any, int, int], None]]] = {
    RecordsConsumed: Folder._consumed,  # noqa: SLF001 - the class's own table
    RecordsKnownFinished: Folder._known_finished,  # noqa: SLF001
    RecordsTraced: Folder._traced,  # noqa: SLF001
    RecordsFinished: Folder._finished,  # noqa: SLF001
    PartitionsRevoked: Folder._revoked,  # noqa: SLF001
    Committed: Folder._committed,  # noqa: SLF001
    HookRan: Folder._hook,  # noqa: SLF001
    HooksRan: Folder._hooks,  # noqa: SLF001
    PeriodicRan: Folder._periodic,  # noqa: SLF001
    Offloaded: Folder._offloaded,  # noqa: SLF001
    LoopAnswered: Folder._loop,  # noqa: SLF001
    WindowFinished: Folder._window,  # noqa: SLF001
    DeliveriesWritten: Folder._written,  # noqa: SLF001
    DeadLettersWritten: Folder._dead_letters,  # noqa: SLF001
    TaskFinished: Folder._task_finished,  # noqa: SLF001
    TasksCompleted: Folder._tasks_completed,  # noqa: SLF001
    TasksPrecomputed: Folder._precomputed,  # noqa: SLF001
    TaskAttempts: Folder._attempts,  # noqa: SLF001
    Trouble: Folder._trouble,  # noqa: SLF001
    Outputs: Folder._outputs,  # noqa: SLF001
    TaskRetried: Folder._retried,  # noqa: SLF001
    TasksStarted: Folder._started,  # noqa: SLF001
    DeliveriesSkipped: Folder._skipped,  # noqa: SLF001
}
"""Functions that fold events by type; every other event is a row of `events`."""

LIFE: Final = frozenset(
    {
        AssignmentAwaited,
        BrokerStateChanged,
        DrainFinished,
        ExecutorBreakerChanged,
        ExecutorUnguarded,
        HostLimitLow,
        HostShortage,
        PartitionsAssigned,
        SinkCircuitChanged,
        StallEnded,
        Stalled,
        StateChanged,
        StateRestored,
        StateStartDecided,
        TopicRecreated,
    }
)
"""Events that are kept whatever the budget."""


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a value with every text redacted, and values under the names of secrets masked.

    >>> redacted({"api_key": "x", "error": "for joe", "n": [1, "joe"]}, lambda text: text.replace("joe", "***"))
    {'api_key': '********', 'error': 'for ***', 'n': [1, '***']}
    """
    if isinstance(value, str):
        return redact(value[:_MAX_TEXT])
    if isinstance(value, Mapping):
        return {
            str(name): MASK if each and is_sensitive(str(name)) else redacted(each, redact)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(each, redact) for each in value]
    return value


def _storing(redact: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: storable(redact(text))


def _text(at: TopicPartition) -> str:
    return f"{at[0]}:{at[1]}"


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
