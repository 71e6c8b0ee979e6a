"""The `sinks` and `dlq` sections."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.sections.client_properties import ProducerConfig
from drakkar_flow.config.sections.delivery import CircuitBreakerConfig, SinkConfig
from drakkar_flow.config.sections.kafka import BrokerList, KafkaSecurityConfig, check_tokens
from drakkar_flow.config.sections.network_sinks import (
    HttpSinkConfig,
    MongoSinkConfig,
    PostgresSinkConfig,
    RedisSinkConfig,
)

__all__ = ["DlqConfig", "FilesystemSinkConfig", "KafkaSinkConfig", "SinksConfig", "SqliteSinkConfig"]


class KafkaSinkConfig(SinkConfig):
    """A topic that results go to; every message is acknowledged by the broker."""

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


class FilesystemSinkConfig(SinkConfig):
    """A directory of JSON-lines files."""

    base_path: str = Field(min_length=1)
    """The directory all paths stay inside."""
    fsync: Literal["never", "batch"] = "batch"
    """Sync of written lines to disk: `batch` before they are acknowledged, `never` leaves it to the system."""


class SqliteSinkConfig(SinkConfig):
    """An SQLite database; tables are made from the first row when they don't exist."""

    path: str = Field(min_length=1)
    """The database file."""
    create_tables: bool = True
    """Creates a missing table from its first row."""
    synchronous: Literal["NORMAL", "FULL"] = "FULL"
    """SQLite's synchronous level: FULL survives a power cut, NORMAL a crash of the process."""


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
