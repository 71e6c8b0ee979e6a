"""Settings of `sinks.postgres.<name>`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from drakkar_flow.config.redact import SecretUrl
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.urls import check_url

__all__ = ["PostgresSinkConfig"]


class PostgresSinkConfig(SinkConfig):
    """A PostgreSQL database."""

    synonyms = dict.fromkeys(("url", "uri", "connection_string", "conninfo"), "dsn")
    dsn: SecretUrl = Field(min_length=1)
    """Address and login: `postgres://user:password@host:5432/database`, or libpq's `key=value` form. In a
    URL, user and password are percent-encoded."""
    pool_min: int = Field(default=2, ge=1)
    """Connections that are kept open."""
    pool_max: int = Field(default=10, ge=1)
    """Limit of connections."""
    statements: dict[str, str] = {}
    """SQL by name, with `:parameters`, for payloads that name a statement."""

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: SecretUrl) -> SecretUrl:
        if "://" in dsn.get_secret_value() or "=" not in dsn.get_secret_value():
            check_url(dsn, ("postgres", "postgresql"), several_hosts=True, no_host=True)
        return dsn

    @model_validator(mode="after")
    def _pool_in_order(self) -> Self:
        if self.pool_min > self.pool_max:
            raise ValueError(f"pool_min ({self.pool_min}) must not exceed pool_max ({self.pool_max})")
        return self
