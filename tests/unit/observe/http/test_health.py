"""Whether a worker lives and is ready, and the reasons when it is not."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ExecutorBreakerChanged, HostShortage
from drakkar_flow.observe.events.lifecycle import StateChanged
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeadLettersWritten, DeliveriesWritten, DeliveryRetried
from drakkar_flow.observe.events.source import BrokerStateChanged, PartitionsAssigned
from drakkar_flow.observe.events.stalls import Stalled, StallEnded
from drakkar_flow.observe.http.health import Health, liveness, readiness, reasons
from drakkar_flow.observe.http.server import MetricsServer

LANE = ("in", 3)
READY = [StateChanged("running"), PartitionsAssigned((LANE,), total=1), BrokerStateChanged(up=True)]


def after(*events: Event) -> list[str]:
    """The reasons after some events."""
    health, bus = Health(), Bus()
    health.listen(bus)
    for event in events:
        bus.emit(event)
    return reasons(health.snapshot)


RETRIED = DeliveryRetried("kafka", "out", 3, 1, 0.5, "down")


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ([], ["not_started"]),
        ([StateChanged("starting")], ["not_started"]),
        ([StateChanged("running")], ["no_assignment"]),
        (READY, []),
        ([*READY, PartitionsAssigned((), total=0)], []),
        ([*READY, BrokerStateChanged(up=False)], ["brokers_down"]),
        ([*READY, BrokerStateChanged(up=False), BrokerStateChanged(up=True)], []),
        ([*READY, RETRIED], ["sink_kafka:out_not_connected"]),
        ([*READY, RETRIED, RETRIED, DeliveriesWritten("kafka", "out", 1, 0.1)], []),
        ([*READY, RETRIED, DeliveriesWritten("kafka", "in", 1, 0.1)], ["sink_kafka:out_not_connected"]),
        ([*READY, DeadLetterFailed(1, "x", dropped=False)], ["dlq_stalled"]),
        ([*READY, DeadLetterFailed(1, "x", dropped=True)], []),
        ([*READY, DeadLetterFailed(1, "x", dropped=False), DeadLettersWritten(1)], []),
        ([*READY, Stalled("partition", 300.0, LANE)], ["partition_in:3_stalled"]),
        ([*READY, ExecutorBreakerChanged("open", 5, "why")], ["executor_unavailable"]),
        ([*READY, ExecutorBreakerChanged("half_open", 5, "why")], ["executor_unavailable"]),
        ([*READY, ExecutorBreakerChanged("open", 5, "why"), ExecutorBreakerChanged("closed", 0, "")], []),
        (
            [
                *READY,
                ExecutorBreakerChanged("open", 5, "why"),
                ExecutorBreakerChanged("closed", 0, "", "oneshot"),
            ],
            ["executor_unavailable"],
        ),
        ([*READY, HostShortage("executor", "descriptors", "why")], ["host_lacks_descriptors"]),
        (
            [
                *READY,
                HostShortage("executor", "processes", "why"),
                HostShortage("offload", "processes", "why"),
                HostShortage("offload", "processes", "", over=True),
            ],
            ["host_lacks_processes"],
        ),
        ([*READY, Stalled("loop", 5.0)], ["loop_stalled"]),
        ([*READY, Stalled("partition", 300.0, LANE), StallEnded("partition", 301.0, LANE)], []),
        ([*READY, RETRIED, StateChanged("draining")], ["draining"]),
        ([*READY, StateChanged("failed")], ["failed"]),
    ],
)
def test_d46_the_reasons_are_named_until_they_are_over(events: list[Event], wanted: list[str]) -> None:
    """Each thing that keeps a worker from its work is a reason of its own, and goes with its end."""
    assert after(*events) == wanted


def test_a_worker_lives_until_a_heartbeat_is_too_old() -> None:
    """A limit of 0 is none."""
    assert liveness({}, 300.0)[0] == 200
    assert liveness({"loop": 299.0}, 300.0) == (200, {"status": "ok", "heartbeat_age_s": {"loop": 299.0}})
    assert liveness({"loop": 0.0, "engine": 301.0}, 300.0)[0] == 503
    assert liveness({"loop": 1e9}, 0.0)[0] == 200


def test_d46_pages_are_json_beside_the_metrics() -> None:
    """The status says it to a probe, the content to a person; what is asked for otherwise are the metrics."""
    health = Health()
    pages = {"/readyz": lambda: readiness(health.snapshot), "/healthz": lambda: liveness({"loop": 0.1}, 300.0)}
    server = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[0], pages=pages)
    server.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz?x=1", timeout=10) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert json.load(answer) == {"status": "ok", "heartbeat_age_s": {"loop": 0.1}}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=10)
        with refused.value as answer:
            assert (answer.code, json.load(answer)["reasons"]) == (503, ["not_started"])
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
    finally:
        server.close()
