"""What the settings of every kind of sink share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from drakkar_flow.config.base import NO_PAGE, NoEffect, Section

__all__ = ["NO_BREAKER", "CircuitBreakerConfig", "RetryConfig", "SinkConfig"]

NO_BREAKER = NoEffect("there is no circuit breaker in this version; retry says how failed writes are tried again")


class RetryConfig(Section):
    """How a failed write is tried again: exponential back-off with full jitter."""

    attempts: int = Field(default=5, ge=1)
    """Writes tried before the payloads count as failed, the first included."""
    initial_s: float = Field(default=0.1, gt=0)
    """Seconds before the second attempt."""
    max_s: float = Field(default=10.0, gt=0)
    """The longest pause between two attempts, in seconds."""


class CircuitBreakerConfig(Section):
    """When a sink that keeps failing is left alone for a while."""

    failure_threshold: int = Field(default=5, ge=1)
    """Failed batches in a row, their retries included, after which the sink is left alone."""
    cooldown_seconds: float = Field(default=30.0, ge=0)
    """Seconds until one batch probes whether it works again."""


class SinkConfig(Section):
    """Settings that every sink has."""

    retry: RetryConfig = RetryConfig()
    """How failed writes are tried again."""
    circuit_breaker: Annotated[CircuitBreakerConfig | None, NO_BREAKER] = None
    """When this sink is left alone for a while; null takes sinks.circuit_breaker."""
    ui_url: Annotated[str, NO_PAGE] = ""
    """Link shown to operators."""
