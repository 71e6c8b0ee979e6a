"""Settings of `sinks.redis.<name>`."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import field_validator

from drakkar_flow.config.redact import SecretUrl
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.urls import check_url

__all__ = ["RedisSinkConfig"]


class RedisSinkConfig(SinkConfig):
    """A Redis server."""

    synonyms = dict.fromkeys(("uri", "dsn"), "url") | {"prefix": "key_prefix"}
    url: SecretUrl = SecretUrl("redis://localhost:6379/0")
    """Address: `redis://`, `rediss://` (TLS) or `unix://`."""
    key_prefix: str = ""
    """Prefix of every key."""
    scripts: dict[str, str] = {}
    """Lua scripts by name, for payloads that name one."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretUrl) -> SecretUrl:
        check_url(url, ("redis", "rediss", "unix"))
        parts = urlsplit(url.get_secret_value())
        database = parse_qs(parts.query).get("db", [unquote(parts.path).replace("/", "")])[-1]
        if parts.scheme != "unix" and database and not (database.isascii() and database.isdecimal()):
            raise ValueError("the database of the URL must be a number, as in redis://host:6379/0")
        return url
