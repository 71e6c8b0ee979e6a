"""Settings of `sinks.kafka.<name>`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from drakkar_flow.config.sections.client_properties import ProducerConfig
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.sections.kafka import BrokerList, KafkaSecurityConfig, check_tokens

__all__ = ["KafkaSinkConfig"]


class KafkaSinkConfig(SinkConfig):
    """A topic for results; every message is acknowledged by the broker."""

    topic: str = Field(min_length=1)
    """The topic."""
    brokers: BrokerList = ""
    """Bootstrap servers; empty takes kafka.brokers, with kafka.security and kafka.client_config."""
    security: KafkaSecurityConfig | None = None
    """Encryption and login; null takes kafka.security when the brokers are kafka.brokers, else none."""
    client_config: ProducerConfig = {}
    """Further librdkafka producer properties."""
    linger_ms: float = Field(default=2.0, ge=0)
    """Milliseconds librdkafka waits to fill a batch."""
    allow_source_topic: bool = False
    """Allows a topic that the flow reads. Otherwise the start is refused, because records would loop forever. Set
    it if the flow ends the loop itself, for example by a count of attempts."""

    @model_validator(mode="after")
    def _has_tokens(self) -> Self:
        if self.brokers and self.security is not None:
            check_tokens(self.security, self.client_config)
        return self
