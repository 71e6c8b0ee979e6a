"""The `metrics` and `logging` sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from drakkar_flow.config.base import Section

__all__ = ["LoggingConfig", "MetricsConfig"]


class MetricsConfig(Section):
    """The Prometheus endpoint."""

    enabled: bool = True
    """Whether metrics are served."""
    port: int = Field(default=9090, ge=0, le=65_535)
    """The port; 0 takes any free one."""
    host: str = Field(default="0.0.0.0", min_length=1)  # noqa: S104 - a scraper is on another machine
    """The address listened on; the default is every interface, so that a scraper on another machine gets through."""


class LoggingConfig(Section):
    """What is logged, how and where."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """The least severe level that is logged; case does not matter."""
    format: Literal["json", "console"] = "json"
    """One JSON object per line, or text for people."""
    fields: Literal["plain", "ecs"] = "plain"
    """The names of the fields of JSON lines: plain ones, or those of the Elastic Common Schema."""
    output: str = Field(default="stderr", min_length=1)
    """`stderr`, `stdout`, or a file whose name may contain `{worker_id}` and `{cluster_name}`."""

    @field_validator("level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level
