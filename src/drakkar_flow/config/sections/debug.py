"""The `debug` section: the flight recorder."""

from __future__ import annotations

from math import inf
from typing import Annotated, Final

from pydantic import Field, SecretStr

from drakkar_flow.config.base import NO_PAGE, NoEffect, Section

__all__ = ["DebugConfig"]


_NO_BOUND: Final = NoEffect("recordings are bounded by debug.retention_mib and debug.retention_hours")
_NO_RETRIES: Final = NoEffect("the recorder gives up its oldest file, then details, then writing, and tries again")


class DebugConfig(Section):
    """The flight recorder, and the operators' web page."""

    enabled: bool = False
    """Records what the worker does, for `drakkar-flow recorder`."""
    host: Annotated[str, NO_PAGE] = "127.0.0.1"
    """The address listened on."""
    port: Annotated[int, NO_PAGE] = Field(default=8080, ge=1, le=65_535)
    """The port."""
    auth_token: Annotated[SecretStr, NO_PAGE] = SecretStr("")
    """Bearer token; empty leaves the page open."""
    allowed_ws_origins: Annotated[list[str], NO_PAGE] = []
    """Origins that may open a WebSocket."""
    debug_url: Annotated[str, NO_PAGE] = ""
    """The public address of this worker's page."""
    db_dir: str = ""
    """Directory of the recordings, on a local disk, that only this user may write to; empty is
    `$XDG_STATE_HOME/drakkar-flow/recorder`, or `.local/state/drakkar-flow/recorder` in the home directory."""
    store_events: bool = True
    """Records events, tasks, traces and outputs; false leaves ticks, spans and faults."""
    store_config: bool = True
    """Records the configuration, without secrets."""
    store_state: bool = True
    """Records gauges: lag, queues, slots, records in flight."""
    state_sync_interval_seconds: float = Field(default=1.0, ge=0.1)
    """Seconds between two records of the gauges."""
    expose_env_vars: list[str] = []
    """Environment variables that are recorded too; values under the names of secrets are masked."""
    rotation_interval_minutes: float = Field(default=60, gt=0)
    """Minutes after which a new file is begun."""
    rotation_mib: float = Field(default=64, ge=1)
    """Size in MiB at which a new file is begun."""
    retention_hours: float = Field(default=24, gt=0)
    """Hours files are kept."""
    retention_mib: float = Field(default=1024, ge=1)
    """MiB of files kept in the directory, of all workers; details of the oldest files go first."""
    retention_max_events: Annotated[int, _NO_BOUND] = Field(default=100_000, ge=100)
    """The most events kept."""
    store_output: bool = True
    """Records stdin, stdout and stderr of failed and long tasks, 64 KiB of each."""
    flush_interval_seconds: float = Field(default=0.25, ge=0.05)
    """Seconds between two writes, the most that a crash of the process loses."""
    max_buffer: int = Field(default=50_000, ge=1000)
    """The most events held in memory; further ones are dropped and counted."""
    max_flush_retries: Annotated[int, _NO_RETRIES] = Field(default=3, ge=1)
    """Attempts for a failed write."""
    max_ui_rows: Annotated[int, NO_PAGE] = Field(default=5000, ge=100)
    """The most rows a page shows."""
    log_min_duration_ms: Annotated[int, NoEffect("log lines are limited by cause")] = Field(default=500, ge=0)
    """Tasks shorter than this are not logged."""
    ws_min_duration_ms: Annotated[int, NO_PAGE] = Field(default=500, ge=0)
    """Tasks shorter than this are not pushed to the page."""
    event_min_duration_ms: int = Field(default=0, ge=0)
    """Tasks shorter than this are not recorded, unless they failed or were retried."""
    output_min_duration_ms: int = Field(default=500, ge=0)
    """The output of successful tasks shorter than this is not recorded."""
    trace_every: int = Field(default=10_000, ge=0)
    """One record in so many is traced, the same on every worker; those with the header `drakkar-trace` always are."""
    prometheus_url: Annotated[str, NO_PAGE] = ""
    """Prometheus, for links from the page."""
    prometheus_rate_interval: Annotated[str, NO_PAGE] = "5m"
    """Rate interval in those links."""
    prometheus_worker_label: Annotated[str, NO_PAGE] = ""
    """Label that names the worker in those links."""
    prometheus_cluster_label: Annotated[str, NO_PAGE] = ""
    """Label that names the cluster in those links."""
    custom_links: Annotated[list[dict[str, str]], NO_PAGE] = []
    """Further links on the page."""

    @property
    def long_task_s(self) -> float:
        """Seconds after which the output of a successful task is recorded; infinite if none is."""
        stored = self.enabled and self.store_events and self.store_output
        return self.output_min_duration_ms / 1000 if stored else inf
