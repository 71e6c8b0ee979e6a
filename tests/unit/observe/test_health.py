"""Whether a worker lives and is ready, and the reasons when it is not."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from drakkar_flow.observe import events as ev
from drakkar_flow.observe import executor_events as xev
from drakkar_flow.observe import vitals
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.health import Health, liveness, readiness, reasons
from drakkar_flow.observe.http import MetricsServer

LANE = ("in", 3)
READY = [ev.StateChanged("running"), ev.PartitionsAssigned((LANE,), total=1), ev.BrokerStateChanged(up=True)]


def after(*events: ev.Event) -> list[str]:
    """The reasons after some events."""
    health, bus = Health(), Bus()
    health.listen(bus)
    for event in events:
        bus.emit(event)
    return reasons(health.snapshot)


RETRIED = ev.DeliveryRetried("kafka", "out", 3, 1, 0.5, "down")


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ([], ["not_started"]),
        ([ev.StateChanged("starting")], ["not_started"]),
        ([ev.StateChanged("running")], ["no_assignment"]),
        (READY, []),
        ([*READY, ev.PartitionsAssigned((), total=0)], []),
        ([*READY, ev.BrokerStateChanged(up=False)], ["brokers_down"]),
        ([*READY, ev.BrokerStateChanged(up=False), ev.BrokerStateChanged(up=True)], []),
        ([*READY, RETRIED], ["sink_kafka:out_not_connected"]),
        ([*READY, RETRIED, RETRIED, ev.DeliveriesWritten("kafka", "out", 1, 0.1)], []),
        ([*READY, RETRIED, ev.DeliveriesWritten("kafka", "in", 1, 0.1)], ["sink_kafka:out_not_connected"]),
        ([*READY, ev.DeadLetterFailed(1, "x", dropped=False)], ["dlq_stalled"]),
        ([*READY, ev.DeadLetterFailed(1, "x", dropped=True)], []),
        ([*READY, ev.DeadLetterFailed(1, "x", dropped=False), ev.DeadLettersWritten(1)], []),
        ([*READY, vitals.Stalled("partition", 300.0, LANE)], ["partition_in:3_stalled"]),
        ([*READY, xev.ExecutorBreakerChanged("open", 5, "why")], ["executor_unavailable"]),
        ([*READY, xev.ExecutorBreakerChanged("half_open", 5, "why")], ["executor_unavailable"]),
        ([*READY, xev.ExecutorBreakerChanged("open", 5, "why"), xev.ExecutorBreakerChanged("closed", 0, "")], []),
        (
            [
                *READY,
                xev.ExecutorBreakerChanged("open", 5, "why"),
                xev.ExecutorBreakerChanged("closed", 0, "", "oneshot"),
            ],
            ["executor_unavailable"],
        ),
        ([*READY, xev.HostShortage("executor", "descriptors", "why")], ["host_lacks_descriptors"]),
        (
            [
                *READY,
                xev.HostShortage("executor", "processes", "why"),
                xev.HostShortage("offload", "processes", "why"),
                xev.HostShortage("offload", "processes", "", over=True),
            ],
            ["host_lacks_processes"],
        ),
        ([*READY, vitals.Stalled("loop", 5.0)], ["loop_stalled"]),
        ([*READY, vitals.Stalled("partition", 300.0, LANE), vitals.StallEnded("partition", 301.0, LANE)], []),
        ([*READY, RETRIED, ev.StateChanged("draining")], ["draining"]),
        ([*READY, ev.StateChanged("failed")], ["failed"]),
    ],
)
def test_d46_the_reasons_are_named_until_they_are_over(events: list[ev.Event], wanted: list[str]) -> None:
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
