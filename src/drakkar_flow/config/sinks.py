"""The `sinks` and `dlq` sections: one model per kind of sink."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from drakkar_flow.config.base import Section

__all__ = ["DlqConfig", "FilesystemSinkConfig", "KafkaSinkConfig", "RetryConfig", "SinksConfig", "SqliteSinkConfig"]


class RetryConfig(Section):
    """How a failed write is tried again: exponential back-off with full jitter."""

    attempts: int = Field(default=5, ge=1)
    """Writes tried before the payloads count as failed, the first included."""
    initial_s: float = Field(default=0.1, gt=0)
    """Seconds before the second attempt."""
    max_s: float = Field(default=10.0, gt=0)
    """The longest pause between two attempts, in seconds."""


class KafkaSinkConfig(Section):
    """A topic that results go to; every message is acknowledged by the broker."""

    topic: str = Field(min_length=1)
    """The topic."""
    brokers: str = ""
    """Bootstrap servers; empty takes kafka.brokers."""
    client_config: dict[str, Any] = {}
    """Further librdkafka producer properties."""
    linger_ms: float = Field(default=2.0, ge=0)
    """Milliseconds librdkafka waits to fill a batch."""
    delivery_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a message that no broker acknowledged counts as failed."""
    retry: RetryConfig = RetryConfig()
    """How failed writes are tried again."""
    ui_url: str = ""
    """Link shown to operators."""


class FilesystemSinkConfig(Section):
    """A directory of JSON-lines files."""

    base_path: str = Field(min_length=1)
    """The directory all paths stay inside."""
    fsync: Literal["never", "batch"] = "batch"
    """When written lines are forced to disk: `batch` before they are acknowledged, `never` leaves it to the system."""
    retry: RetryConfig = RetryConfig()
    """How failed writes are tried again."""
    ui_url: str = ""
    """Link shown to operators."""


class SqliteSinkConfig(Section):
    """An SQLite database; tables are made from the first row when they don't exist."""

    path: str = Field(min_length=1)
    """The database file."""
    create_tables: bool = True
    """Whether a missing table is made from its first row."""
    synchronous: Literal["NORMAL", "FULL"] = "FULL"
    """SQLite's synchronous level: FULL survives a power cut, NORMAL a crash of the process."""
    retry: RetryConfig = RetryConfig()
    """How failed writes are tried again."""
    ui_url: str = ""
    """Link shown to operators."""


class SinksConfig(Section):
    """The sinks by kind and name."""

    kafka: dict[str, KafkaSinkConfig] = {}
    """Kafka topics."""
    filesystem: dict[str, FilesystemSinkConfig] = {}
    """Directories of JSON-lines files."""
    sqlite: dict[str, SqliteSinkConfig] = {}
    """SQLite databases."""


class DlqConfig(Section):
    """Where what could not be processed or delivered goes."""

    topic: str = ""
    """The dead letter topic; empty means the source topic followed by `_dlq`."""
    brokers: str = ""
    """Bootstrap servers; empty takes kafka.brokers."""
    client_config: dict[str, Any] = {}
    """Further librdkafka producer properties."""
    on_failure: Literal["stall", "drop"] = "stall"
    """When that topic fails too: `stall` keeps trying and the offset stays, `drop` gives the letter up."""
