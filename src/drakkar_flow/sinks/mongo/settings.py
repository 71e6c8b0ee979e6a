"""Settings of `sinks.mongo.<name>`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.redact import SecretUrl
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.urls import check_url

__all__ = ["MongoSinkConfig", "MongoStatement"]


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

    synonyms = dict.fromkeys(("url", "dsn", "connection_string"), "uri") | {"db": "database"}
    uri: SecretUrl = Field(min_length=1)
    """Address and login: `mongodb://user:password@host:27017`."""
    database: str = Field(min_length=1)
    """The database."""
    statements: dict[str, MongoStatement] = {}
    """Writes by name, for payloads that name one."""
    driver: Literal["pymongo", "motor"] = "pymongo"
    """Client library: `pymongo` (its async client), or `motor`, which its makers ended in May 2026."""
    operators: Literal["marked", "any"] = "marked"
    """Places where payloads may hold operators: `marked` allows them in a MongoExpr only. `any` allows them in every
    mapping of a filter, and paths in the data of updates, as in py-drakkar; no unchecked value of a message may
    then appear in a filter."""

    @field_validator("uri")
    @classmethod
    def _is_a_uri(cls, uri: SecretUrl) -> SecretUrl:
        check_url(uri, ("mongodb", "mongodb+srv"), several_hosts=True)
        return uri
