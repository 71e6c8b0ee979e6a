"""Health: liveness and readiness of a worker, with the reasons of a negative answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.executor import ExecutorBreakerChanged, HostShortage
from drakkar_flow.observe.events.lifecycle import StateChanged
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeadLettersWritten, DeliveriesWritten, DeliveryRetried
from drakkar_flow.observe.events.source import BrokerStateChanged, PartitionsAssigned
from drakkar_flow.observe.events.stalls import Stalled, StallEnded

__all__ = ["Health", "HealthSnapshot", "ProbeResponse", "liveness", "readiness", "reasons"]

ProbeResponse = tuple[int, dict[str, object]]
"""HTTP status and JSON content."""


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """State that readiness depends on."""

    state: str = ""
    """State of the flow: starting, running, draining, stopped, failed; empty before the start."""
    joined: bool = False
    """True after the first assignment by the consumer group, even an empty one."""
    brokers_up: bool = True
    failing_sinks: frozenset[str] = frozenset()
    """Sinks, as `kind:name`, with a failed last write that is retried."""
    unavailable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Executors, by name and mode, that can't start programs or children, with the reason."""
    shortages: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """Shortages of the host, by executor, part and resource, with the reason."""
    dead_letters_stalled: bool = False
    stalled: frozenset[str] = field(default_factory=frozenset)
    """Stalls: `partition topic:number`, `loop`, `engine`."""


def reasons(health: HealthSnapshot) -> list[str]:
    """Return the reasons why a worker is not ready; empty if it is ready.

    >>> reasons(HealthSnapshot(state="running", joined=True, failing_sinks=frozenset({"kafka:out"})))
    ['sink_kafka:out_not_connected']
    >>> reasons(HealthSnapshot(state="starting"))
    ['not_started']
    """
    if health.state in ("", "starting"):
        return ["not_started"]
    if health.state != "running":
        return [health.state]
    found = [] if health.joined else ["no_assignment"]
    if not health.brokers_up:
        found.append("brokers_down")
    found += [f"sink_{sink}_not_connected" for sink in sorted(health.failing_sinks)]
    if health.unavailable:
        found.append("executor_unavailable")
    found += sorted({f"host_lacks_{lacks}" for _, _, lacks in health.shortages})
    if health.dead_letters_stalled:
        found.append("dlq_stalled")
    found += [f"{what.replace(' ', '_')}_stalled" for what in sorted(health.stalled)]
    return found


def readiness(health: HealthSnapshot) -> ProbeResponse:
    """Return 200 if the worker is ready, else 503 with the reasons, and with `details` as text if there are any.

    >>> readiness(HealthSnapshot(state="running", joined=True, unavailable={("", "oneshot"): "can't start 'jq'"}))
    (503, {'status': 'not_ready', 'reasons': ['executor_unavailable'], 'details': ["can't start 'jq'"]})
    """
    found = reasons(health)
    answer: dict[str, object] = {"status": "not_ready" if found else "ready", "reasons": found}
    troubles = (*health.unavailable.items(), *health.shortages.items())
    if details := list(dict.fromkeys(f"executor {key[0]}: {why}" if key[0] else why for key, why in troubles)):
        answer["details"] = details
    return (503 if found else 200), answer


def liveness(heartbeats: Mapping[str, float], limit_s: float) -> ProbeResponse:
    """Return 200 with the seconds since each heartbeat, or 503 if one exceeds `limit_s`; 0 disables the limit.

    >>> liveness({"loop": 0.25, "engine": 400.0}, 300.0)
    (503, {'status': 'stalled', 'heartbeat_age_s': {'loop': 0.25, 'engine': 400.0}})
    """
    dead = limit_s > 0 and any(age_s > limit_s for age_s in heartbeats.values())
    ages = {name: round(age_s, 3) for name, age_s in heartbeats.items()}
    return (503 if dead else 200), {"status": "stalled" if dead else "ok", "heartbeat_age_s": ages}


class Health:
    """Maintains the snapshot from the events of a bus; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._now = HealthSnapshot()

    @property
    def snapshot(self) -> HealthSnapshot:
        """Current health."""
        return self._now

    def listen(self, bus: Bus) -> None:
        """Subscribe to `bus` and update the snapshot from now on."""
        bus.listen(StateChanged, lambda e: self._set(state=e.state))
        bus.listen(PartitionsAssigned, lambda _: self._set(joined=True))
        bus.listen(BrokerStateChanged, lambda e: self._set(brokers_up=e.up))
        bus.listen(ExecutorBreakerChanged, self._set_executor)
        bus.listen(HostShortage, self._set_shortage)
        bus.listen(DeliveryRetried, lambda e: self._set_sink(e, failing=True))
        bus.listen(DeliveriesWritten, lambda e: self._set_sink(e, failing=False))
        bus.listen(DeadLetterFailed, lambda e: self._set_dead_letters(stalled=not e.dropped))
        bus.listen(DeadLettersWritten, lambda _: self._set_dead_letters(stalled=False))
        bus.listen(Stalled, lambda e: self._set_stalled(e, stalled=True))
        bus.listen(StallEnded, lambda e: self._set_stalled(e, stalled=False))

    def _set(self, **changes: Any) -> None:
        with self._lock:
            self._now = replace(self._now, **changes)

    def _set_sink(self, event: DeliveryRetried | DeliveriesWritten, *, failing: bool) -> None:
        sink = f"{event.sink_type}:{event.sink_name}"
        if failing is not (sink in self._now.failing_sinks):
            self._set(failing_sinks=self._now.failing_sinks ^ {sink})

    def _set_executor(self, event: ExecutorBreakerChanged) -> None:
        known = self._now.unavailable
        key = (event.executor_name, event.executor)
        others = {executor: reason for executor, reason in known.items() if executor != key}
        reason = known.get(key, event.reason) if event.state == "half_open" else event.reason
        self._set(unavailable=others if event.state == "closed" else {**others, key: reason})

    def _set_shortage(self, event: HostShortage) -> None:
        key = (event.executor_name, event.part, event.lacks)
        others = {known: reason for known, reason in self._now.shortages.items() if known != key}
        self._set(shortages=others if event.over else {**others, key: event.reason})

    def _set_dead_letters(self, *, stalled: bool) -> None:
        if stalled is not self._now.dead_letters_stalled:
            self._set(dead_letters_stalled=stalled)

    def _set_stalled(self, event: Stalled | StallEnded, *, stalled: bool) -> None:
        what = (
            event.what
            if event.topic_partition is None
            else f"{event.what} {event.topic_partition[0]}:{event.topic_partition[1]}"
        )
        now = self._now.stalled
        self._set(stalled=now | {what} if stalled else now - {what})
