"""Events, as frozen values. Hot events carry counts: one per batch, not per record."""

from __future__ import annotations

import msgspec

from drakkar_flow.model.record import Lane
from drakkar_flow.observe.about import NOTHING, About

__all__ = [
    "Annotated",
    "AnnotationDropped",
    "BrokerStateChanged",
    "CommitFailed",
    "Committed",
    "ConsumerError",
    "DeadLetterFailed",
    "DeadLettersWritten",
    "DeliveriesFailed",
    "DeliveriesSkipped",
    "DeliveriesSuppressed",
    "DeliveriesWritten",
    "DeliveryRetried",
    "DrainFinished",
    "DuplicateTasks",
    "Event",
    "FlowFailed",
    "HookRan",
    "HooksRan",
    "IntakePaused",
    "Offloaded",
    "PartitionsAssigned",
    "PartitionsRevoked",
    "PeriodicRan",
    "RecordsConsumed",
    "RecordsFailed",
    "RecordsFinished",
    "SinkCircuitChanged",
    "StateChanged",
    "TaskFellBack",
    "TaskFinished",
    "TasksCompleted",
    "TasksPrecomputed",
    "TasksStarted",
    "WindowFinished",
]


class Event(msgspec.Struct, frozen=True, gc=False):
    """The base of all events."""


class StateChanged(Event, frozen=True):
    """The runtime of a flow reached a state: starting, running, draining, stopped, failed.

    `reason` says why it failed, empty where a `FlowFailed` has said it.
    """

    state: str
    reason: str = ""
    flow: str = ""
    config: str = ""
    """Which file the configuration was read from, or that there was none; of `starting` only."""


class FlowFailed(Event, frozen=True):
    """The flow has to stop because of `reason`."""

    reason: str


class BrokerStateChanged(Event, frozen=True):
    """The source's connection to its brokers was lost (up=False) or is back."""

    up: bool
    reason: str = ""


class ConsumerError(Event, frozen=True):
    """The consumer reported an error it goes on after."""

    error: str


class PartitionsAssigned(Event, frozen=True):
    """Partitions were assigned to this process; `total` are assigned now."""

    lanes: tuple[Lane, ...]
    total: int


class PartitionsRevoked(Event, frozen=True):
    """Partitions were taken from this process; `unfinished` records are left to their next owner."""

    lanes: tuple[Lane, ...]
    total: int
    lost: bool = False
    unfinished: int = 0


class IntakePaused(Event, frozen=True):
    """Intake stopped because too much is in flight (paused=True), or goes on."""

    paused: bool
    in_flight: int


class RecordsConsumed(Event, frozen=True):
    """Records of a partition were read from the broker."""

    lane: Lane
    count: int
    size: int


class RecordsKnownFinished(Event, frozen=True):
    """Records were read that an earlier owner of the partition had finished: they are not processed again."""

    lane: Lane
    count: int


class RecordsFinished(Event, frozen=True):
    """Records returned all their credit, by the status of their worst branch.

    `oldest_latency_s` is the time from reading to finishing of the one that took longest, None
    where the time of reading is not known.
    """

    done: int
    skipped: int
    dead: int
    oldest_latency_s: float | None = None


class RecordsFailed(Event, frozen=True):
    """A step turned records of a partition into failures; `error` and `label` are the first one's.

    `policy` is where they go: dlq, skip, fail, or pass where they go on; `decided_by` is the setting that says so,
    where it does. `records` are those that had not failed before, None where all count. `cause` is the failed
    task's, see `causes`.
    """

    kind: str
    stage: str
    lane: Lane
    count: int
    error: str
    label: str
    policy: str = "dlq"
    about: About = NOTHING
    records: int | None = None
    decided_by: str = ""
    cause: str = ""

    @property
    def new(self) -> int:
        """How many records failed for the first time."""
        return self.count if self.records is None else self.records


class Committed(Event, frozen=True):
    """Offsets (the next to read) were committed, by partition."""

    offsets: tuple[tuple[Lane, int], ...]


class CommitFailed(Event, frozen=True):
    """A commit was refused, for these partitions; it is tried again."""

    error: str
    lanes: tuple[Lane, ...] = ()


class TasksStarted(Event, frozen=True):
    """Tasks were handed to an executor; `executor_name`, here and elsewhere, is empty for the default one."""

    count: int
    executor_name: str = ""


class TasksPrecomputed(Event, frozen=True):
    """Tasks brought their result along."""

    count: int


class DuplicateTasks(Event, frozen=True):
    """Tasks were arranged whose ids are pending in their partition; `task_id` is the first one's. All of them run."""

    lane: Lane
    count: int
    task_id: str
    about: About = NOTHING


class TaskFinished(Event, frozen=True):
    """A run of a task is over: `status` is completed, failed or cancelled, `kind` why it failed.

    `spawn_s` is 0 when no program was started.
    """

    status: str
    kind: str
    duration_s: float
    queue_wait_s: float
    spawn_s: float
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    executor_name: str = ""


class TasksCompleted(Event, frozen=True):
    """Tasks ended well in one turn of the loop: how long each took, and how long it waited before."""

    durations_s: tuple[float, ...]
    queue_waits_s: tuple[float, ...]
    executor_name: str = ""


class TaskFellBack(Event, frozen=True):
    """A task that no child can be given is run as a process of its own."""

    task_id: str
    reason: str
    offsets: tuple[int, ...] = ()
    executor_name: str = ""


class HookRan(Event, frozen=True):
    """A hook was called once: how long it took, whether it raised, and what.

    `duration_s` is None where the call's time is not measured, or is part of a batch's.
    """

    hook: str
    duration_s: float | None
    error: str = ""
    exception: BaseException | None = None
    about: About = NOTHING


class HooksRan(Event, frozen=True):
    """A hook was called `count` times in one batch that took `duration_s` altogether."""

    hook: str
    count: int
    duration_s: float


class PeriodicRan(Event, frozen=True):
    """A periodic function was run once; `stopped` tells that it raised and is not run any more."""

    name: str
    duration_s: float
    error: str = ""
    exception: BaseException | None = None
    stopped: bool = False


class Offloaded(Event, frozen=True):
    """A call for a hook ran on a thread of the pool for `duration_s`."""

    hook: str
    duration_s: float


class Annotated(Event, frozen=True):
    """A handler attached `data`, as JSON, to what `target_type` and `target` name."""

    target_type: str
    target: str
    kind: str
    data: str
    labels: dict[str, str]


class AnnotationDropped(Event, frozen=True):
    """An annotation was given up; `reason` is too_large or not_json."""

    kind: str
    reason: str


class WindowFinished(Event, frozen=True):
    """All tasks of a window ended, `duration_s` after it was arranged."""

    lane: Lane
    records: int
    tasks: int
    duration_s: float


class DeliveriesWritten(Event, frozen=True):
    """A sink wrote a batch."""

    sink_type: str
    sink_name: str
    count: int
    duration_s: float


class DeliveryRetried(Event, frozen=True):
    """A sink failed and the batch is tried again after `delay_s`."""

    sink_type: str
    sink_name: str
    count: int
    attempt: int
    delay_s: float
    error: str
    about: About = NOTHING


class DeliveriesFailed(Event, frozen=True):
    """Payloads were given up by a sink, after so many `attempts`."""

    sink_type: str
    sink_name: str
    count: int
    error: str
    attempts: int = 0
    about: About = NOTHING


class DeliveriesSkipped(Event, frozen=True):
    """Payloads were dropped on purpose."""

    sink_type: str
    sink_name: str
    count: int
    about: About = NOTHING


class SinkCircuitChanged(Event, frozen=True):
    """A sink is left alone (open) after `failures` failed batches in a row, probed (half_open) or used again (closed).

    `waits` tells whether its deliveries wait while it is open, `reason` is why the last batch failed.
    """

    sink_type: str
    sink_name: str
    state: str
    failures: int
    waits: bool
    reason: str = ""


class DeadLettersWritten(Event, frozen=True):
    """Dead letters were acknowledged by the broker."""

    count: int
    about: About = NOTHING


class DeliveriesSuppressed(Event, frozen=True):
    """Payloads or dead letters were not written, because their partitions were taken away; `lanes` counts by lane."""

    count: int
    lanes: tuple[tuple[Lane, int], ...] = ()
    about: About = NOTHING


class DeadLetterFailed(Event, frozen=True):
    """Dead letters could not be written; `dropped` tells whether they were given up, `lanes` counts them by lane."""

    count: int
    error: str
    dropped: bool
    lanes: tuple[tuple[Lane, int], ...] = ()
    about: About = NOTHING


class DrainFinished(Event, frozen=True):
    """A drain ended with `unfinished` records left, of `oldest` offsets, and `uncommitted` ones finished."""

    unfinished: int
    duration_s: float
    uncommitted: int = 0
    oldest: tuple[tuple[Lane, int], ...] = ()
