"""What a flow told on its bus, so that two runs of it can be compared: what is a matter of chance is summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.lifecycle import DrainFinished, FlowFailed, StateChanged
from drakkar_flow.observe.events.source import Committed, PartitionsAssigned, PartitionsRevoked
from drakkar_flow.observe.events.tasks import TaskAttempts

__all__ = ["told"]

_OF_A_WORKER = {
    "AssignmentAwaited",
    "BrokerStateChanged",
    "ClientLogged",
    "ConsumerError",
    "LoopAnswered",
    "Idled",
    "Stalled",
    "StallEnded",
    "IntakePaused",
}
"""What only a worker that is connected, watched and loaded can tell."""
_AMOUNTS = ("count", "size", "done", "skipped", "dead", "records", "tasks")
_OF_A_BATCH = {"error", "label", "task_id", "about", "first", "last", "epoch", "watermarks", "assignments"}
"""What an event about several items says of some of them: which these are depends on how they were batched."""
_NAMES = {"sink_name", "exception"}
_HOOKS_OF_WINDOWS = {"arrange", "on_window_complete"}
"""How often these run depends on how the windows were cut."""


def told(events: Iterable[Event]) -> dict[str, Any]:
    """The life of the flow in order, where each partition's commits ended, and how much was told of all else.

    Amounts are added up, however many events they came in; times and names that differ from run to run are left out.
    """
    events = list(events)
    offsets = {
        topic_partition[1]: offset
        for each in events
        if isinstance(each, Committed)
        for topic_partition, offset in each.offsets
    }
    life = [step for event in events if (step := _of_life(event)) is not None]
    return {"life": life, "committed": offsets, "counts": _counts(events)}


def _of_life(event: Event) -> tuple[Any, ...] | None:
    match event:
        case StateChanged():
            return ("state", event.state)
        case PartitionsAssigned():
            return ("assigned", *sorted(number for _, number in event.topic_partitions))
        case PartitionsRevoked():
            return (
                "lost" if event.lost else "revoked",
                event.unfinished,
                *sorted(number for _, number in event.topic_partitions),
            )
        case DrainFinished():
            return ("drained", event.unfinished, event.uncommitted)
        case FlowFailed():
            return ("failed",)
    return None


def _counts(events: list[Event]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for event in events:
        name = type(event).__name__
        if name in _OF_A_WORKER or isinstance(event, Committed) or _of_life(event) is not None:
            continue
        if isinstance(event, TaskAttempts):
            counts.update(f"attempt {each.attempt} of {each.task_id}: {each.status}" for each in event.attempts)
            continue
        fields = {key: value for key, value in msgspec.structs.asdict(event).items() if not _by_chance(key)}
        amounts = {key: fields.pop(key) for key in _AMOUNTS if key in fields}
        left_out = _OF_A_BATCH if amounts else ()
        words = " ".join([name, *(f"{key}={_short(value)}" for key, value in fields.items() if key not in left_out)])
        if fields.get("hook") in _HOOKS_OF_WINDOWS:
            counts[words] = 1
        else:
            counts.update({f"{words} {key}": int(amount) for key, amount in amounts.items()} or {words: 1})
    return +counts


def _by_chance(field: str) -> bool:
    return field in _NAMES or field.endswith("_s")


def _short(value: Any) -> Any:
    """A partition by its number, for each run has a topic of its own; of a failed task what every executor tells."""
    if isinstance(value, EventContext):
        return ([place[1:] for place in value.records], value.tasks, value.total)
    if isinstance(value, ExecutorError):
        return (value.task.task_id, value.kind, value.exit_code, value.signal, value.attempt)
    return value[1] if isinstance(value, tuple) and len(value) == 2 else value
