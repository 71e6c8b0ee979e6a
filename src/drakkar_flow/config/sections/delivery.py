"""Delivery settings that every kind of sink has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from drakkar_flow.config.base import NO_PAGE, Section

__all__ = ["CircuitBreakerConfig", "RetryConfig", "SinkConfig"]


class RetryConfig(Section):
    """Retries of failed writes: exponential backoff with full jitter. The last two keys bound RETRY of
    `on_delivery_error`."""

    attempts: int = Field(default=5, ge=1)
    """Writes tried before the payloads count as failed, the first included."""
    initial_s: float = Field(default=0.1, gt=0)
    """Seconds before the second attempt."""
    max_s: float = Field(default=10.0, gt=0)
    """The longest pause between two attempts, in seconds."""
    max_rounds: int = Field(default=0, ge=0)
    """Rounds of attempts that RETRY may start; then the payloads are dead letters. 0 is no limit."""
    max_elapsed_s: float = Field(default=0.0, ge=0)
    """Seconds after a batch's first failure after which RETRY makes dead letters of it; 0 is no limit."""


class CircuitBreakerConfig(Section):
    """Circuit breaker of a sink."""

    failure_threshold: int = Field(default=5, ge=1)
    """Failed batches in a row, their retries included, after which the breaker opens."""
    cooldown_seconds: float = Field(default=30.0, ge=0)
    """Seconds until one batch probes the sink."""
    when_open: Literal["dlq", "wait"] = "dlq"
    """Deliveries while the breaker is open: `dlq` passes them to the flow's error route, dead letters by default,
    without a call of the sink or of on_delivery_error; `wait` holds them, and soon
    the intake, until a probe succeeds."""


class SinkConfig(Section):
    """Settings that every sink has."""

    retry: RetryConfig = RetryConfig()
    """Retries of failed writes."""
    circuit_breaker: CircuitBreakerConfig | None = None
    """Circuit breaker of this sink; missing keys are taken from sinks.circuit_breaker."""
    delivery_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a write counts as failed and is cancelled: of a batch, of a request for HTTP, of a message
    for Kafka; as sinks.delivery_timeout_seconds unless given."""
    ui_url: Annotated[str, NO_PAGE] = ""
    """Link shown to operators."""
