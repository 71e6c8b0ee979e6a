"""Delivery settings that every kind of sink has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from drakkar_flow.config.base import NO_PAGE, Section

__all__ = ["CircuitBreakerConfig", "RetryConfig", "SinkConfig"]


class RetryConfig(Section):
    """How a failed write is tried again: exponential back-off with full jitter; the last two keys bound RETRY of
    `on_delivery_error`."""

    attempts: int = Field(default=5, ge=1)
    """Writes tried before the payloads count as failed, the first included."""
    initial_s: float = Field(default=0.1, gt=0)
    """Seconds before the second attempt."""
    max_s: float = Field(default=10.0, gt=0)
    """The longest pause between two attempts, in seconds."""
    max_rounds: int = Field(default=0, ge=0)
    """How often RETRY gives as many attempts again; then the payloads are dead letters. 0 sets no end."""
    max_elapsed_s: float = Field(default=0.0, ge=0)
    """Seconds after a batch's first failure from which on RETRY makes dead letters of it; 0 sets no end."""


class CircuitBreakerConfig(Section):
    """When a sink that keeps failing is left alone for a while."""

    failure_threshold: int = Field(default=5, ge=1)
    """Failed batches in a row, their retries included, after which the sink is left alone."""
    cooldown_seconds: float = Field(default=30.0, ge=0)
    """Seconds until one batch probes whether it works again."""
    when_open: Literal["dlq", "wait"] = "dlq"
    """What becomes of deliveries meanwhile: `dlq` hands them to the flow's error route, dead letters by default,
    without a call of the sink or of on_delivery_error; `wait` holds them, and soon
    the intake, until a probe works."""


class SinkConfig(Section):
    """Settings that every sink has."""

    retry: RetryConfig = RetryConfig()
    """How failed writes are tried again."""
    circuit_breaker: CircuitBreakerConfig | None = None
    """When this sink is left alone for a while; what is not given is as in sinks.circuit_breaker."""
    delivery_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a write counts as failed and is cancelled: of a batch, of a request for HTTP, of a message
    for Kafka; as sinks.delivery_timeout_seconds unless given."""
    ui_url: Annotated[str, NO_PAGE] = ""
    """Link shown to operators."""
