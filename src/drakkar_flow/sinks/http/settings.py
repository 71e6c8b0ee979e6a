"""Settings of `sinks.http.<name>`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from drakkar_flow.config.base import NoEffect
from drakkar_flow.config.redact import SecretUrl
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.urls import check_url

__all__ = ["HttpSinkConfig"]


_UNREAD = NoEffect("retry.attempts says how often a write is tried; py-drakkar reads it nowhere")


class HttpSinkConfig(SinkConfig):
    """A web service that takes a request per payload."""

    synonyms = dict.fromkeys(("uri", "endpoint"), "url") | {"timeout": "timeout_seconds"}
    url: SecretUrl
    """The address, http or https."""
    method: str = Field(default="POST", min_length=1)
    """The method."""
    timeout_seconds: float = Field(default=30, gt=0)
    """Seconds one request may take."""
    headers: dict[str, str] = {}
    """Headers of every request."""
    encoding: Literal["json", "form", "multipart"] = "json"
    """Encoding of a payload as the body."""
    max_retries: Annotated[int, _UNREAD] = Field(default=3, ge=0)
    """Accepted for py-drakkar's sake."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretUrl) -> SecretUrl:
        check_url(url, ("http", "https"))
        return url
