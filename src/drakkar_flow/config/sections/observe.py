"""The `metrics` and `logging` sections."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from drakkar_flow.config.base import Section

__all__ = ["LoggingConfig", "MetricsConfig"]

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_RANGE: Final = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)


class MetricsConfig(Section):
    """The HTTP server for Prometheus and probes."""

    enabled: bool = True
    """Serves metrics."""
    port: int = Field(default=9090, ge=0, le=65_535)
    """The port; 0 takes any free one. When given, it is the only one tried."""
    port_range: str = "9090-9099"
    """The ports `first-last`, of which the first free one is taken when `port` is not given."""
    host: str = Field(default="0.0.0.0", min_length=1)  # noqa: S104 - see docs/observability.md
    """The address listened on; the default is every IPv4 interface, for Prometheus and probes come from other hosts."""

    @property
    def ports(self) -> range:
        """The ports to try, in this order.

        >>> MetricsConfig().ports, MetricsConfig(port=80).ports
        (range(9090, 9100), range(80, 81))
        """
        if "port" in self.model_fields_set:
            return range(self.port, self.port + 1)
        first, last = map(int, self.port_range.split("-"))
        return range(first, last + 1)

    @field_validator("port_range")
    @classmethod
    def _is_a_range(cls, text: str) -> str:
        match = _RANGE.fullmatch(text)
        if match is None or not 0 < int(match[1]) <= int(match[2]) <= 65_535:
            raise ValueError("must be two ports, like 9090-9099")
        return text


class LoggingConfig(Section):
    """Level, format and output of log lines."""

    level: Level = "INFO"
    """The least severe level that is logged; case does not matter."""
    levels: dict[str, Level] = {}
    """Levels of single loggers, like `httpx: DEBUG`; client libraries' are WARNING unless given."""
    format: Literal["auto", "json", "console"] = "auto"
    """`json`: one JSON object per line; `console`: text for people; `auto`: console at a terminal, else json."""
    fields: Literal["plain", "ecs"] = "plain"
    """The names of the fields of JSON lines: plain ones, or those of the Elastic Common Schema."""
    output: str = Field(default="stderr", min_length=1)
    """`stderr`, `stdout`, or a file whose name may contain `{worker_id}` and `{cluster_name}`."""
    progress_interval_s: float = Field(default=30.0, ge=0)
    """Seconds between two progress lines; 0 = none."""

    @field_validator("level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("levels", mode="before")
    @classmethod
    def _all_in_capitals(cls, levels: object) -> object:
        return {name: cls._in_capitals(level) for name, level in levels.items()} if isinstance(levels, dict) else levels
