"""Health: whether a worker lives and is ready to work, and if not, why."""

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
"""An HTTP status and the JSON that goes with it."""


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """What readiness is judged by."""

    state: str = ""
    """The runtime's state: starting, running, draining, stopped, failed; empty before."""
    joined: bool = False
    """Whether the group has answered with an assignment, of no partition maybe."""
    brokers_up: bool = True
    failing_sinks: frozenset[str] = frozenset()
    """The sinks, as `kind:name`, whose last attempt to write failed and is tried again."""
    unavailable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The executors, by name and mode, that can't start programs or children, with the reason."""
    shortages: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """What the host lacks, by executor, part and resource, with the reason."""
    dead_letters_stalled: bool = False
    stalled: frozenset[str] = field(default_factory=frozenset)
    """What stands still: `partition topic:number`, `loop`, `engine`."""


def reasons(health: HealthSnapshot) -> list[str]:
    """Why a worker is not ready to work; empty when it is.

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
    """200 when the worker is ready, else 503 with the reasons, and `details` in words where there are any.

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
    """200 with the seconds since each heartbeat; 503 when one is older than `limit_s`, for which 0 is never.

    >>> liveness({"loop": 0.25, "engine": 400.0}, 300.0)
    (503, {'status': 'stalled', 'heartbeat_age_s': {'loop': 0.25, 'engine': 400.0}})
    """
    dead = limit_s > 0 and any(age_s > limit_s for age_s in heartbeats.values())
    ages = {name: round(age_s, 3) for name, age_s in heartbeats.items()}
    return (503 if dead else 200), {"status": "stalled" if dead else "ok", "heartbeat_age_s": ages}


class Health:
    """Keeps the snapshot by what a bus hands out; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._now = HealthSnapshot()

    @property
    def snapshot(self) -> HealthSnapshot:
        """The health as far as events have told."""
        return self._now

    def listen(self, bus: Bus) -> None:
        """Keep the snapshot by the events of `bus` from now on."""
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
