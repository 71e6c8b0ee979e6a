"""The `sinks` and `dlq` sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.extended import section_with
from drakkar_flow.config.sections.client_properties import ProducerConfig
from drakkar_flow.config.sections.delivery import CircuitBreakerConfig, SinkConfig
from drakkar_flow.config.sections.kafka import BrokerList, KafkaSecurityConfig, check_tokens
from drakkar_flow.kinds.registry import SINKS
from drakkar_flow.sinks.filesystem.settings import FilesystemSinkConfig
from drakkar_flow.sinks.http.settings import HttpSinkConfig
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.sinks.mongo.settings import MongoSinkConfig
from drakkar_flow.sinks.postgres.settings import PostgresSinkConfig
from drakkar_flow.sinks.redis.settings import RedisSinkConfig
from drakkar_flow.sinks.sqlite.settings import SqliteSinkConfig

__all__ = ["DlqConfig", "KafkaSinkConfig", "SinksConfig", "sinks_section"]


class SinksConfig(Section):
    """The sinks by kind and name."""

    kafka: dict[str, KafkaSinkConfig] = {}
    """Kafka topics."""
    postgres: dict[str, PostgresSinkConfig] = {}
    """PostgreSQL databases."""
    mongo: dict[str, MongoSinkConfig] = {}
    """MongoDB databases."""
    http: dict[str, HttpSinkConfig] = {}
    """Web services."""
    redis: dict[str, RedisSinkConfig] = {}
    """Redis servers."""
    filesystem: dict[str, FilesystemSinkConfig] = {}
    """Directories of JSON-lines files."""
    sqlite: dict[str, SqliteSinkConfig] = {}
    """SQLite databases."""
    circuit_breaker: CircuitBreakerConfig = CircuitBreakerConfig()
    """Circuit breaker of sinks; each sink may override it."""
    delivery_timeout_seconds: float = Field(default=30.0, gt=0)
    """Seconds after which a write counts as failed, for sinks without a delivery_timeout_s."""

    @model_validator(mode="wrap")
    @classmethod
    def _has_plug_ins(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Any:
        """Take the sections of plug-ins, which only `sinks_section` has."""
        if isinstance(value, SinksConfig):
            return value
        if isinstance(value, Mapping) and not value.keys() <= cls.model_fields.keys():
            section = sinks_section()
            if section is not cls:
                return section.model_validate(value)
        return handler(value)

    @property
    def named(self) -> list[tuple[str, str]]:
        """Kind and name of every sink."""
        return [(kind, name) for kind, sinks in self if isinstance(sinks, dict) for name in sinks]

    def circuit_of(self, sink: SinkConfig) -> CircuitBreakerConfig:
        """The circuit breaker of one sink: its own settings over those of all sinks."""
        own = sink.circuit_breaker
        given = {name: getattr(own, name) for name in own.model_fields_set} if own is not None else {}
        return self.circuit_breaker.model_copy(update=given)

    def timeout_of(self, sink: SinkConfig) -> float:
        """Seconds after which a write to one sink counts as failed."""
        return (
            sink.delivery_timeout_s if "delivery_timeout_s" in sink.model_fields_set else self.delivery_timeout_seconds
        )


SINKS.reserve([*dir(SinksConfig), *SinksConfig.model_fields, "custom"])


def sinks_section() -> type[SinksConfig]:
    """The section with a key for each kind of sink that a plug-in brings."""
    kinds: dict[str, Any] = {}
    for kind, spec in SINKS.usable().items():
        settings: Any = spec.settings_type
        kinds[kind] = (dict[str, settings], {})
    return section_with(SinksConfig, kinds)


class DlqConfig(Section):
    """The dead letter topic, for failed records and deliveries, and the brake."""

    topic: str = ""
    """The dead letter topic; empty means the source topic followed by `_dlq`."""
    brokers: BrokerList = ""
    """Bootstrap servers; empty takes kafka.brokers, with kafka.security and kafka.client_config."""
    security: KafkaSecurityConfig | None = None
    """Encryption and login; null takes kafka.security when the brokers are kafka.brokers, else none."""
    client_config: ProducerConfig = {}
    """Further librdkafka producer properties."""
    include_server_detail: bool = True
    """Adds the answer of a sink's target to dead letters, in the header `drakkar.server_detail`: PostgreSQL's DETAIL,
    the beginning of an HTTP body. It may quote rows; log lines never have it."""
    on_failure: Literal["stall", "drop"] = "stall"
    """Policy if that topic fails: `stall` keeps trying and the offset stays, `drop` discards the dead letter."""
    stop_after: int = Field(default=10, ge=0)
    """Failures in a row, for one cause and without a success of their step in between, after which the flow stops with
    exit code 1; none of them is committed. Counts causes that no record is to blame for: a missing table, a route
    without the payload's sink, a program that can't be started. Other causes need ten times as many records, and
    a step that has never succeeded. 0 turns the brake off, max_ratio too."""
    max_ratio: float = Field(default=0.9, ge=0, le=1)
    """Share of the last ratio_window records that fail for one cause at which the flow stops; 0 sets none."""
    ratio_window: int = Field(default=1_000, ge=1)
    """The fewest records that a share is taken of."""
    hold_s: float = Field(default=3.0, gt=0)
    """Seconds that failures which may be a mistake are held back, counted from the last one of their cause, before
    they are dead letters or skipped after all."""

    @model_validator(mode="after")
    def _has_tokens(self) -> Self:
        if self.brokers and self.security is not None:
            check_tokens(self.security, self.client_config)
        return self
