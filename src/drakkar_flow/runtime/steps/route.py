"""Route step: hands each payload to its sinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from drakkar_flow.errors import RoutingError
from drakkar_flow.model.outcome import Delivery, Failure, FailureKind
from drakkar_flow.model.payload import Payload
from drakkar_flow.model.record import Record
from drakkar_flow.model.type_cache import TypeCache
from drakkar_flow.runtime.acknowledgement.credit import split
from drakkar_flow.runtime.failures import failure_of
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.sinks.registry import SPECS, ref_code

__all__ = ["RouteStep", "Target"]


_is_payload = TypeCache(lambda kind: issubclass(kind, Payload))


class Target(NamedTuple):
    """A sink for the route: its name, the wrapping of a plain value, and its inbox."""

    id: str
    name: str
    payload_type: type
    wrap: Callable[[Any, Record], Any]
    inbox: list[Delivery]


class RouteStep(AsyncStep[Delivery | Record, Any]):
    """Divides items among the inboxes of the sinks.

    A payload object goes to the sink it names, or to the only one of its kind. Any other value goes to every sink,
    wrapped as that sink's payload. `others` are the configured sinks that the route leaves out, by the payload they
    take, such as `postgres.main`.
    """

    def __init__(
        self,
        context: StepContext,
        step_id: str,
        targets: Sequence[Target],
        others: Mapping[type, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(context, step_id)
        self._others = others or {}
        self._targets = targets
        self._by_type: dict[type, list[Target]] = {}
        for target in targets:
            self._by_type.setdefault(target.payload_type, []).append(target)
        self._resolved: dict[tuple[type, str], list[Delivery]] = {}

    def accept(self, items: list[Delivery | Record]) -> None:
        """Route items; an item that can't be routed is a failure of its records."""
        unroutable: list[Failure] = []
        for item in items:
            try:
                if type(item) is Delivery:
                    self._inbox_of(item.payload).append(item)
                else:
                    self._divide(item)  # type: ignore[arg-type] # all else is a record
            except BaseException as exc:  # no sink fits, or its wrapping can't take the value: sys.exit() as well
                unroutable.append(self._unroutable(item, exc))
        self._prove(unroutable)
        for failure in unroutable:
            self.fail(failure)
        self._wake()

    def _prove(self, unroutable: list[Failure]) -> None:
        """Note the kinds of payloads that can be routed, and that not everything fails."""
        proof = self._proof
        for target in self._targets:
            kind = target.payload_type
            if target.inbox and (unroutable or kind not in proof.works or self.step_id not in proof.works):
                proof.add(kind)
                proof.add(self.step_id)
                for failure in unroutable:
                    failure.refuted |= failure.proof in (kind, self.step_id)

    def _unroutable(self, item: Delivery | Record, error: BaseException) -> Failure:
        """Return the failure of an item; if its payload names a sink, the name alone is in doubt."""
        tokens = item.tokens if isinstance(item, Delivery) else ((item, item.credit),)
        failure = failure_of(FailureKind.ROUTING, self.step_id, error, tokens)
        if isinstance(error, RoutingError):
            kind = type(item.payload)
            failure.proof = kind if getattr(item.payload, "sink", "") else (kind, "")
            failure.cause = f"{kind.__name__} {failure.cause}"
        return failure

    def _divide(self, record: Record) -> None:
        value = record.payload
        if _is_payload[type(value)]:
            self._inbox_of(value).append(Delivery(value, ((record, record.credit),)))
            return
        targets = self._targets
        if len(targets) == 1:  # as most flows have
            target = targets[0]
            target.inbox.append(Delivery(target.wrap(value, record), ((record, record.credit),)))
            return
        if not targets:
            raise RoutingError("no sink is configured")
        shares = split(record.credit, len(targets))
        payloads = [target.wrap(value, record) for target in targets]
        for target, payload, credit in zip(targets, payloads, shares, strict=True):
            target.inbox.append(Delivery(payload, ((record, credit),)))

    def _inbox_of(self, payload: Any) -> list[Delivery]:
        try:
            key = (type(payload), payload.sink)
        except AttributeError:
            raise RoutingError(f"{type(payload).__name__} where a payload belongs") from None
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._look_up(*key).inbox
        return found

    def _look_up(self, kind: type, name: str) -> Target:
        candidates = self._by_type.get(kind, [])
        names = ", ".join(repr(target.name) for target in candidates) or "none"
        if not name:
            if len(candidates) == 1:
                return candidates[0]
            if not candidates:
                raise RoutingError(self._missing(kind))
            raise RoutingError(
                f"a {kind.__name__} without a sink name fits {len(candidates)} sinks ({names}); set sink="
            )
        for target in candidates:
            if target.name == name:
                return target
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
        """Return the configured sinks that would take a payload, and those of the route."""
        fitting = [other for other in self._others[kind] if not name or other.partition(".")[2] == name]
        would = " or ".join(f"sinks.{other}" for other in fitting)
        refs = " or ".join(ref_code(*other.split(".", 1)) for other in fitting)
        named = ", ".join(target.id for target in self._targets)
        return f"step {self.step_id!r} routes to {named} only; {would} is configured and would: add {refs} to the route"
