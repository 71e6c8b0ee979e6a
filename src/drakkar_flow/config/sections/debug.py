"""The `debug` and `cache` sections of py-drakkar, checked as there, without effect."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from drakkar_flow.config.base import Section

__all__ = ["CacheConfig", "CachePeerSyncConfig", "DebugConfig"]


class DebugConfig(Section):
    """The operators' web page and the recorder behind it."""

    enabled: bool = True
    """Enables page and recorder."""
    host: str = "127.0.0.1"
    """The address listened on."""
    port: int = Field(default=8080, ge=1, le=65_535)
    """The port."""
    auth_token: SecretStr = SecretStr("")
    """Bearer token; empty leaves the page open."""
    allowed_ws_origins: list[str] = []
    """Origins that may open a WebSocket."""
    debug_url: str = ""
    """The public address of this worker's page."""
    db_dir: str = "/tmp"  # noqa: S108 - py-drakkar's default
    """Directory of the recorder's databases; empty keeps nothing on disk."""
    store_events: bool = True
    """Records events."""
    store_config: bool = True
    """Records this worker's settings, by which its peers find it."""
    store_state: bool = True
    """Records this worker's state."""
    state_sync_interval_seconds: int = Field(default=10, ge=1)
    """Seconds between two records of the state."""
    expose_env_vars: list[str] = []
    """Environment variables that are recorded too."""
    rotation_interval_minutes: int = Field(default=60, ge=1)
    """Minutes after which a new database is begun."""
    retention_hours: int = Field(default=24, ge=1)
    """Hours databases are kept."""
    retention_max_events: int = Field(default=100_000, ge=100)
    """The most events kept."""
    store_output: bool = True
    """Records stdout and stderr of programs."""
    flush_interval_seconds: int = Field(default=5, ge=1)
    """Seconds between two writes of the recorder."""
    max_buffer: int = Field(default=50_000, ge=1000)
    """The most events the recorder holds in memory."""
    max_flush_retries: int = Field(default=3, ge=1)
    """Attempts of the recorder for a failed write."""
    max_ui_rows: int = Field(default=5000, ge=100)
    """The most rows a page shows."""
    log_min_duration_ms: int = Field(default=500, ge=0)
    """Tasks shorter than this are not logged."""
    ws_min_duration_ms: int = Field(default=500, ge=0)
    """Tasks shorter than this are not pushed to the page."""
    event_min_duration_ms: int = Field(default=0, ge=0)
    """Tasks shorter than this are not recorded."""
    output_min_duration_ms: int = Field(default=500, ge=0)
    """The output of tasks shorter than this is not recorded."""
    prometheus_url: str = ""
    """Prometheus, for links from the page."""
    prometheus_rate_interval: str = "5m"
    """Rate interval in those links."""
    prometheus_worker_label: str = ""
    """Label that names the worker in those links."""
    prometheus_cluster_label: str = ""
    """Label that names the cluster in those links."""
    custom_links: list[dict[str, str]] = []
    """Further links on the page."""


class CachePeerSyncConfig(Section):
    """Exchange of caches between workers."""

    enabled: bool = True
    """Enables the exchange."""
    interval_seconds: float = Field(default=30, gt=0)
    """Seconds between two rounds."""
    batch_size: int = Field(default=500, ge=1)
    """The most entries taken from a peer at once."""
    timeout_seconds: float = Field(default=5, gt=0)
    """Seconds one peer may take."""
    cycle_deadline_seconds: float | None = Field(default=None, ge=0.1)
    """Seconds one round may take; null means 0.9 of interval_seconds."""

    @model_validator(mode="after")
    def _within_the_interval(self) -> Self:
        if self.cycle_deadline_seconds is not None and self.cycle_deadline_seconds >= self.interval_seconds:
            raise ValueError(
                f"cycle_deadline_seconds ({self.cycle_deadline_seconds:g}) must be below "
                f"interval_seconds ({self.interval_seconds:g})"
            )
        return self


class CacheConfig(Section):
    """The handler's key-value cache."""

    enabled: bool = False
    """Enables the cache."""
    db_dir: str = ""
    """Directory of its database; empty takes debug.db_dir."""
    flush_interval_seconds: float = Field(default=3.0, gt=0)
    """Seconds between two writes to disk."""
    cleanup_interval_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two removals of expired entries."""
    max_memory_entries: int | None = Field(default=10_000, ge=1)
    """The most entries held in memory; null means no bound."""
    peer_sync: CachePeerSyncConfig = CachePeerSyncConfig()
    """Exchange of caches between workers."""
