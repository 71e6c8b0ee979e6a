"""Events of a running flow, and listeners that hear them.

A listener is a function of an event, or an object whose methods `listens` marks. Without a mark a function hears every
event:

>>> @listens(SinkCircuitChanged, Stalled)
... def page(event: SinkCircuitChanged | Stalled) -> None:
...     print(event)

`StreamingRunner(flow, config, listeners=[page])`, `DrakkarApp(handler, listeners=[page])` and
`dataflow(flow, listeners=[page])` take it. Each listener has a thread and a queue of 10,000 events of its own: the flow
never waits for it. Events that do not fit are dropped, counted and reported, what it raises is counted, and logged once
for each type of event.

Events are frozen. Hot ones carry counts: one per batch, not per record. New fields may be added at their ends, new
types at any time. Texts are not redacted: they may quote what a target answered.
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
    TopicRecreated,
)
from drakkar_flow.observe.events.stalls import Idled, LoopAnswered, Stalled, StallEnded
from drakkar_flow.observe.events.tasks import (
    DuplicateTasks,
    RetriesExhausted,
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
    "LoopAnswered",
    "Offloaded",
    "PartitionsAssigned",
    "PartitionsRevoked",
    "PeriodicRan",
    "RecordsConsumed",
    "RecordsFailed",
    "RecordsFinished",
    "RecordsKnownFinished",
    "RetriesExhausted",
    "SinkCircuitChanged",
    "StallEnded",
    "Stalled",
    "StateChanged",
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
