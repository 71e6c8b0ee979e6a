"""Events of a running flow, and listeners for them.

A listener is a function of one event, or an object with methods that `listens` marks. An unmarked function receives
every event:

>>> @listens(SinkCircuitChanged, Stalled)
... def page(event: SinkCircuitChanged | Stalled) -> None:
...     print(event)

`StreamingRunner(flow, config, listeners=[page])`, `DrakkarApp(handler, listeners=[page])` and
`dataflow(flow, listeners=[page])` take listeners. Each listener has its own thread and its own queue of 10,000 events;
the flow never waits for a listener. Events that do not fit into the queue are dropped, counted and reported. Exceptions
of a listener are counted, and logged once per type of event.

Events are immutable. Events of the hot path carry counts: one event per batch, not per record. New fields are appended;
new types may be added at any time. Texts are not redacted: they may quote the answer of a target.
"""

from __future__ import annotations

from drakkar_flow.observe.events.annotations import Annotated, AnnotationDropped
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.executor import (
    ChildEnded,
    ChildLogged,
    ChildStarted,
    ExecutorBreakerChanged,
    ExecutorUnguarded,
    HostLimitLow,
    HostShortage,
)
from drakkar_flow.observe.events.hooks import HookRan, HooksRan, Offloaded, PeriodicRan
from drakkar_flow.observe.events.lifecycle import (
    DrainFinished,
    FlowFailed,
    ListenerFailed,
    ListenerLagged,
    LogLineLost,
    StateChanged,
)
from drakkar_flow.observe.events.records import RecordsFailed, RecordsFinished
from drakkar_flow.observe.events.sinks import (
    DeadLetterFailed,
    DeadLettersWritten,
    DeliveriesFailed,
    DeliveriesSkipped,
    DeliveriesSuppressed,
    DeliveriesWritten,
    DeliveryRetried,
    SinkCircuitChanged,
)
from drakkar_flow.observe.events.source import (
    AssignmentAwaited,
    BrokerStateChanged,
    ClientLogged,
    CommitFailed,
    Committed,
    ConsumerError,
    IntakePaused,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsConsumed,
    RecordsKnownFinished,
    RecordsTraced,
    TopicRecreated,
)
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered, Stalled, StallEnded
from drakkar_flow.observe.events.state import StateRestored, StateStartDecided
from drakkar_flow.observe.events.tasks import (
    DuplicateTasks,
    LongTaskRan,
    RetriesExhausted,
    TaskAttempt,
    TaskAttempts,
    TaskFailed,
    TaskFellBack,
    TaskFinished,
    TaskRetried,
    TasksCompleted,
    TasksPrecomputed,
    TasksStarted,
    WindowFinished,
)
from drakkar_flow.observe.listeners import Listener, listens

__all__ = [
    "Annotated",
    "AnnotationDropped",
    "AssignmentAwaited",
    "BrokerStateChanged",
    "ChildEnded",
    "ChildLogged",
    "ChildStarted",
    "ClientLogged",
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
    "EventContext",
    "ExecutorBreakerChanged",
    "ExecutorUnguarded",
    "FlowFailed",
    "HookRan",
    "HooksRan",
    "HostLimitLow",
    "HostShortage",
    "Idled",
    "IntakePaused",
    "Listener",
    "ListenerFailed",
    "ListenerLagged",
    "LogLineLost",
    "LongTaskRan",
    "LoopAnswered",
    "Offloaded",
    "PartitionsAssigned",
    "PartitionsRevoked",
    "PeriodicRan",
    "RecordsConsumed",
    "RecordsFailed",
    "RecordsFinished",
    "RecordsKnownFinished",
    "RecordsTraced",
    "RetriesExhausted",
    "SinkCircuitChanged",
    "StallEnded",
    "Stalled",
    "StateChanged",
    "StateRestored",
    "StateStartDecided",
    "TaskAttempt",
    "TaskAttempts",
    "TaskFailed",
    "TaskFellBack",
    "TaskFinished",
    "TaskRetried",
    "TasksCompleted",
    "TasksPrecomputed",
    "TasksStarted",
    "TopicRecreated",
    "WindowFinished",
    "listens",
]
