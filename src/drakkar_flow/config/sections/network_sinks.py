"""Settings of the sinks that write to a server: PostgreSQL, MongoDB, HTTP and Redis."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from drakkar_flow.config.base import NoEffect, Section
from drakkar_flow.config.redact import SecretUrl
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.urls import wrong_part

__all__ = ["HttpSinkConfig", "MongoSinkConfig", "MongoStatement", "PostgresSinkConfig", "RedisSinkConfig"]

_UNREAD = NoEffect("retry.attempts says how often a write is tried; py-drakkar reads it nowhere")


class PostgresSinkConfig(SinkConfig):
    """A PostgreSQL database."""

    dsn: SecretUrl = Field(min_length=1)
    """Address and login: `postgres://user:password@host:5432/database`, or libpq's `key=value` form. In a
    URL, user and password are percent-encoded."""
    pool_min: int = Field(default=2, ge=1)
    """Connections that are kept open."""
    pool_max: int = Field(default=10, ge=1)
    """The most connections."""
    statements: dict[str, str] = {}
    """SQL by name, with `:parameters`, for payloads that name a statement."""

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: SecretUrl) -> SecretUrl:
        if "://" in dsn.get_secret_value() or "=" not in dsn.get_secret_value():
            _check_url(dsn, ("postgres", "postgresql"), several_hosts=True, no_host=True)
        return dsn

    @model_validator(mode="after")
    def _pool_in_order(self) -> Self:
        if self.pool_min > self.pool_max:
            raise ValueError(f"pool_min ({self.pool_min}) must not exceed pool_max ({self.pool_max})")
        return self


class MongoStatement(Section):
    """A named write to one collection."""

    collection: str = Field(min_length=1)
    """The collection."""
    op: Literal["update_one", "update_many", "upsert", "delete_one", "delete_many"]
    """The operation on the matching documents."""
    filter: dict[str, Any]
    """Filter of documents; `:name` stands for a parameter of the payload."""
    update: dict[str, Any] | list[dict[str, Any]] | None = None
    """The update document or pipeline, for the operations that change something."""


class MongoSinkConfig(SinkConfig):
    """A MongoDB database."""

    uri: SecretUrl = Field(min_length=1)
    """Address and login: `mongodb://user:password@host:27017`."""
    database: str = Field(min_length=1)
    """The database."""
    statements: dict[str, MongoStatement] = {}
    """Writes by name, for payloads that name one."""
    driver: Literal["pymongo", "motor"] = "pymongo"
    """The client library: PyMongo's own async client, or motor, which its makers ended in May 2026."""
    operators: Literal["marked", "any"] = "marked"
    """Places where payloads may hold operators: `marked` in a MongoExpr only, `any` in every mapping of a filter, and
    paths in the data of updates, as in py-drakkar: then no unchecked value of a message may appear in a filter."""

    @field_validator("uri")
    @classmethod
    def _is_a_uri(cls, uri: SecretUrl) -> SecretUrl:
        _check_url(uri, ("mongodb", "mongodb+srv"), several_hosts=True)
        return uri


class HttpSinkConfig(SinkConfig):
    """A web service that takes a request per payload."""

    url: SecretUrl
    """The address, http or https."""
    method: str = Field(default="POST", min_length=1)
    """The method."""
    timeout_seconds: float = Field(default=30, gt=0)
    """Seconds one request may take."""
    headers: dict[str, str] = {}
    """Headers of every request."""
    encoding: Literal["json", "form", "multipart"] = "json"
    """Encoding of a payload in the body."""
    max_retries: Annotated[int, _UNREAD] = Field(default=3, ge=0)
    """Accepted for py-drakkar's sake."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretUrl) -> SecretUrl:
        _check_url(url, ("http", "https"))
        return url


class RedisSinkConfig(SinkConfig):
    """A Redis server."""

    url: SecretUrl = SecretUrl("redis://localhost:6379/0")
    """Address: `redis://`, `rediss://` (TLS) or `unix://`."""
    key_prefix: str = ""
    """Prefix of every key."""
    scripts: dict[str, str] = {}
    """Lua scripts by name, for payloads that name one."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretUrl) -> SecretUrl:
        _check_url(url, ("redis", "rediss", "unix"))
        parts = urlsplit(url.get_secret_value())
        database = parse_qs(parts.query).get("db", [unquote(parts.path).replace("/", "")])[-1]
        if parts.scheme != "unix" and database and not (database.isascii() and database.isdecimal()):
            raise ValueError("the database of the URL must be a number, as in redis://host:6379/0")
        return url


def _check_url(url: SecretUrl, schemes: tuple[str, ...], *, several_hosts: bool = False, no_host: bool = False) -> None:
    """Raises ValueError, without the value, when it is no URL of one of the schemes with a host (`unix`: a path)."""
    problem = wrong_part(url.get_secret_value(), schemes, several_hosts=several_hosts, no_host=no_host)
    if problem:
        raise ValueError(f"must be a URL with a host, like {schemes[0]}://host: {problem}")
