"""The route step: each payload to its sinks, each failure to its policy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from drakkar_flow.errors import RoutingError
from drakkar_flow.model.outcome import Delivery, Failure, FailureKind
from drakkar_flow.model.payload import Payload
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.task_causes import cause_of_task
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.credit import split
from drakkar_flow.runtime.failures import about, failure_of
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.sinks.registry import SPECS

__all__ = ["DLQ", "TRACK", "Policies", "Routed", "Router", "Target"]

DLQ = "dlq"
SKIP = "skip"
TRACK = "track"

ErrorPolicy = str

_REMEMBERED = 20_000  # records that failed, so that each is counted once


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
        self._lock = threading.Lock()
        self._failed: dict[tuple[str, int, int], None] = {}

    def apply(self, failures: Iterable[Failure]) -> list[Failure]:
        """Say of each failure where it goes; returns those for the dlq step. A `fail` keeps the credit."""
        settled: list[Failure] = []
        for failure in failures:
            first = failure.holds[0][0]
            label = self._labels.of(first)
            count = len(failure.holds)
            policy = self._policy(failure)
            what = (failure.kind, failure.stage, first.lane, count, failure.error)
            cause = cause_of_task(failure.task) if failure.task is not None else ""
            new = self._first_time(failure)
            self._bus.emit(RecordsFailed(*what, label, policy, about((failure,)), new, failure.decided_by, cause))
            if policy == "fail":
                self._control.hold(record for record, _ in failure.holds)
                self._control.fail(f"{failure.stage} failed at {label}: {failure.error}")
            else:
                failure.skipped = policy == SKIP
                if self._labels.are_own:
                    failure.labels = tuple(self._labels.of(record) for record, _ in failure.holds)
                settled.append(failure)
        return settled

    def _policy(self, failure: Failure) -> ErrorPolicy:
        if failure.to_dlq:
            return DLQ
        return SKIP if failure.skipped else self._by_kind.get(failure.kind, self._otherwise)

    def _first_time(self, failure: Failure) -> int:
        """How many of its records have not failed before, as far back as is remembered."""
        places = {(record.topic, record.partition, record.offset) for record, _ in failure.holds}
        with self._lock:
            new = places - self._failed.keys()
            self._failed.update(dict.fromkeys(new))
            while len(self._failed) > _REMEMBERED:
                del self._failed[next(iter(self._failed))]
        return len(new)


class Router:
    """Divides a chunk among the sinks.

    A payload object goes to the sink it names, or to the only one of its kind; any other value goes
    to every sink, wrapped as that sink's payload. `others` are the configured sinks that the route leaves out,
    by the payload they take, such as `postgres.main`.
    """

    def __init__(
        self,
        stage: str,
        targets: Iterable[Target],
        policies: Policies,
        proof: Proof,
        others: Mapping[type, Sequence[str]] | None = None,
    ) -> None:
        self._stage = stage
        self._others = others or {}
        self._proof = proof
        self._targets = list(targets)
        self._policies = policies
        self._by_type: dict[type, list[Target]] = {}
        for target in self._targets:
            self._by_type.setdefault(target.payload_type, []).append(target)
        self._resolved: dict[tuple[type, str], str] = {}

    def __call__(self, chunk: Chunk) -> list[Routed]:
        """Route a chunk; what can't be routed is a failure of its records."""
        by_sink: dict[str, list[Delivery]] = {target.id: [] for target in self._targets}
        unroutable: list[Failure] = []
        for item in chunk.items:
            try:
                if type(item) is Delivery:
                    by_sink[self._resolve(item.payload)].append(item)
                else:
                    self._divide(item, by_sink)
            except Exception as exc:  # no sink fits, or its wrapping can't take the value
                unroutable.append(self._unroutable(item, exc))
        self._prove(by_sink, unroutable)
        chunk.failures.extend(unroutable)
        routed = [Routed(sink, Chunk(deliveries)) for sink, deliveries in by_sink.items() if deliveries]
        acks = chunk.acks
        if chunk.failures:
            settled = self._policies.apply(chunk.failures)
            if settled:
                routed.append(Routed(DLQ, Chunk(settled)))
        if acks:
            routed.append(Routed(TRACK, Chunk(acks=acks)))
        return routed

    def _prove(self, by_sink: dict[str, list[Delivery]], unroutable: list[Failure]) -> None:
        """Note which kinds of payloads can be routed, and that not everything fails."""
        works = self._proof.works
        for target in self._targets:
            kind = target.payload_type
            if (kind not in works or self._stage not in works or unroutable) and by_sink[target.id]:
                self._proof.add(kind)
                self._proof.add(self._stage)
                for failure in unroutable:
                    failure.refuted |= failure.proof in (kind, self._stage)

    def _unroutable(self, item: Delivery | Record, error: Exception) -> Failure:
        """A payload that names a sink may name a wrong one; one that names none can't be routed, whatever it holds."""
        holds = item.holds if isinstance(item, Delivery) else ((item, item.credit),)
        failure = failure_of(FailureKind.ROUTING, self._stage, error, holds)
        if isinstance(error, RoutingError):
            kind = type(item.payload)
            failure.proof = kind if getattr(item.payload, "sink", "") else (kind, "")
            failure.cause = f"{kind.__name__} {failure.cause}"
        return failure

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
                raise RoutingError(self._missing(kind))
            raise RoutingError(
                f"a {kind.__name__} without a sink name fits {len(candidates)} sinks ({names}); set sink="
            )
        for target in candidates:
            if target.name == name:
                return target.id
        if any(other.partition(".")[2] == name for other in self._others.get(kind, ())):
            raise RoutingError(f"a {kind.__name__} names sink {name!r}: {self._left_out(kind, name)}")
        raise RoutingError(f"a {kind.__name__} names sink {name!r}, which is not configured; there are: {names}")

    def _missing(self, kind: type) -> str:
        if self._others.get(kind):
            return f"no sink of the route takes a {kind.__name__}: {self._left_out(kind)}"
        section = next((spec.kind for spec in SPECS.values() if spec.payload_type is kind), "")
        remedy = f"; add sinks.{section}.NAME to the configuration" if section else ""
        return f"no sink is configured that takes a {kind.__name__}{remedy}"

    def _left_out(self, kind: type, name: str = "") -> str:
        """Which configured sinks would take a payload, and what the route has instead."""
        fitting = [other for other in self._others[kind] if not name or other.partition(".")[2] == name]
        would = " or ".join(f"sinks.{other}" for other in fitting)
        fits = [other.partition(".") for other in fitting]
        refs = " or ".join(f"{sink.capitalize()}Sink({found!r})" for sink, _, found in fits)
        named = ", ".join(target.id for target in self._targets)
        return f"step {self._stage!r} routes to {named} only; {would} is configured and would: add {refs} to the route"
