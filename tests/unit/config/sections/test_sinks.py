"""What sinks have in common, and what each may say for itself."""

from __future__ import annotations

from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.config.sections.delivery import CircuitBreakerConfig


def test_a_sinks_own_circuit_breaker_lies_over_the_common_one() -> None:
    """Key by key; null and silence both mean the common one."""
    common = {"failure_threshold": 9, "cooldown_seconds": 60, "when_open": "wait"}
    own = {"own": {"failure_threshold": 2}, "none": None}
    kafka = {name: {"topic": "t", "circuit_breaker": breaker} for name, breaker in own.items()}
    sinks = from_mapping({"sinks": {"circuit_breaker": common, "kafka": {**kafka, "silent": {"topic": "t"}}}}).sinks
    assert sinks.circuit_of(sinks.kafka["own"]) == CircuitBreakerConfig(**{**common, "failure_threshold": 2})
    for name in ("none", "silent"):
        assert sinks.circuit_of(sinks.kafka[name]) == CircuitBreakerConfig(**common)


def test_a_sinks_own_time_limit_outweighs_the_common_one() -> None:
    """Also where it is the default."""
    kafka = {"own": {"topic": "t", "delivery_timeout_s": 30}, "silent": {"topic": "t"}}
    sinks = from_mapping({"sinks": {"delivery_timeout_seconds": 7, "kafka": kafka}}).sinks
    assert sinks.timeout_of(sinks.kafka["own"]) == 30
    assert sinks.timeout_of(sinks.kafka["silent"]) == 7
