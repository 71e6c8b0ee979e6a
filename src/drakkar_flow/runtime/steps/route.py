"""The route step: each payload to its sinks, each failure to its policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from drakkar_flow.errors import RoutingError
from drakkar_flow.model.outcome import Ack, AckStatus, Delivery, Failure, FailureKind
from drakkar_flow.model.payload import Payload
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.causes import cause_of_task
from drakkar_flow.observe.events import RecordsFailed
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.credit import split
from drakkar_flow.runtime.failures import about, failure_of
from drakkar_flow.runtime.steps.labels import Labels

__all__ = ["DLQ", "TRACK", "Policies", "Routed", "Router", "Target"]

DLQ = "dlq"
TRACK = "track"

ErrorPolicy = str


class Target(NamedTuple):
    """A sink as routing sees it: its ids and how a plain value becomes its payload."""

    id: str
    name: str
    payload_type: type
    wrap: Callable[[Any, Record], Any]


class Routed(NamedTuple):
    """A chunk for one of the streams behind route: a sink's id, DLQ or TRACK."""

    target: str
    chunk: Chunk


class Policies:
    """Where failures go: a policy per kind, `otherwise` for the rest."""

    def __init__(
        self,
        otherwise: ErrorPolicy,
        by_kind: Mapping[FailureKind, ErrorPolicy],
        control: Control,
        bus: Bus,
        labels: Labels,
    ) -> None:
        self._otherwise = otherwise
        self._by_kind = dict(by_kind)
        self._control = control
        self._bus = bus
        self._labels = labels

    def apply(self, failures: Iterable[Failure]) -> tuple[list[Failure], list[Ack]]:
        """Sort failures into dead letters and acks; a `fail` keeps the credit and stops the flow."""
        letters: list[Failure] = []
        acks: list[Ack] = []
        for failure in failures:
            first = failure.holds[0][0]
            label = self._labels.of(first)
            count = len(failure.holds)
            policy = DLQ if failure.to_dlq else self._by_kind.get(failure.kind, self._otherwise)
            what = (failure.kind, failure.stage, first.lane, count, failure.error)
            cause = cause_of_task(failure.task) if failure.task is not None else ""
            self._bus.emit(RecordsFailed(*what, label, policy, about((failure,)), cause))
            if policy == "skip":
                acks.extend(Ack(record, credit, AckStatus.SKIPPED) for record, credit in failure.holds)
            elif policy == "fail":
                self._control.hold(record for record, _ in failure.holds)
                self._control.fail(f"{failure.stage} failed at {label}: {failure.error}")
            else:
                if self._labels.are_own:
                    failure.labels = tuple(self._labels.of(record) for record, _ in failure.holds)
                letters.append(failure)
        return letters, acks


class Router:
    """Divides a chunk among the sinks.

    A payload object goes to the sink it names, or to the only one of its kind; any other value goes
    to every sink, wrapped as that sink's payload.
    """

    def __init__(self, stage: str, targets: Iterable[Target], policies: Policies) -> None:
        self._stage = stage
        self._targets = list(targets)
        self._policies = policies
        self._by_type: dict[type, list[Target]] = {}
        for target in self._targets:
            self._by_type.setdefault(target.payload_type, []).append(target)
        self._resolved: dict[tuple[type, str], str] = {}

    def __call__(self, chunk: Chunk) -> list[Routed]:
        """Route a chunk; what can't be routed is a failure of its records."""
        by_sink: dict[str, list[Delivery]] = {target.id: [] for target in self._targets}
        for item in chunk.items:
            try:
                if type(item) is Delivery:
                    by_sink[self._resolve(item.payload)].append(item)
                else:
                    self._divide(item, by_sink)
            except Exception as exc:  # no sink fits, or its wrapping can't take the value
                holds = item.holds if type(item) is Delivery else ((item, item.credit),)
                chunk.failures.append(failure_of(FailureKind.ROUTING, self._stage, exc, holds))
        routed = [Routed(sink, Chunk(deliveries)) for sink, deliveries in by_sink.items() if deliveries]
        acks = chunk.acks
        if chunk.failures:
            letters, more = self._policies.apply(chunk.failures)
            acks = acks + more
            if letters:
                routed.append(Routed(DLQ, Chunk(letters)))
        if acks:
            routed.append(Routed(TRACK, Chunk(acks=acks)))
        return routed

    def _divide(self, record: Record, by_sink: dict[str, list[Delivery]]) -> None:
        value = record.payload
        if isinstance(value, Payload):
            by_sink[self._resolve(value)].append(Delivery(value, ((record, record.credit),)))
            return
        targets = self._targets
        if not targets:
            raise RoutingError("no sink is configured")
        shares = (record.credit,) if len(targets) == 1 else split(record.credit, len(targets))
        payloads = [target.wrap(value, record) for target in targets]
        for target, payload, credit in zip(targets, payloads, shares, strict=True):
            by_sink[target.id].append(Delivery(payload, ((record, credit),)))

    def _resolve(self, payload: Any) -> str:
        try:
            key = (type(payload), payload.sink)
        except AttributeError:
            raise RoutingError(f"{type(payload).__name__} where a payload belongs") from None
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._look_up(*key)
        return found

    def _look_up(self, kind: type, name: str) -> str:
        candidates = self._by_type.get(kind, [])
        names = ", ".join(repr(target.name) for target in candidates) or "none"
        if not name:
            if len(candidates) == 1:
                return candidates[0].id
            if not candidates:
                raise RoutingError(f"no sink is configured that takes a {kind.__name__}")
            raise RoutingError(
                f"a {kind.__name__} without a sink name fits {len(candidates)} sinks ({names}); set sink="
            )
        for target in candidates:
            if target.name == name:
                return target.id
        raise RoutingError(f"a {kind.__name__} names sink {name!r}, which is not configured; there are: {names}")
