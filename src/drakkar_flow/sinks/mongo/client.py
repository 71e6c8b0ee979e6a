"""MongoDB client: one interface to PyMongo's async client and to motor, and the meaning of their errors."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, Final, Literal

from drakkar_flow.errors import SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected
from drakkar_flow.sinks.clients import require
from drakkar_flow.sinks.threads import to_completion

__all__ = ["MongoClient", "is_for_good", "outage", "refusal"]

_DEFAULTS: Final[Mapping[str, int | str]] = {
    "serverSelectionTimeoutMS": 10_000,
    "socketTimeoutMS": 30_000,
    "uuidRepresentation": "standard",
}
"""Options of the driver that the uri may override."""

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024

Driver = Literal["pymongo", "motor"]

_NOT_THE_SERVER = frozenset({91, 189, 10058, 10107, 11600, 11602, 13435, 13436})
"""Codes of a server that shuts down or is not the primary any more."""
_FOR_NOW = frozenset({6, 7, 50, 63, 64, 89, 100, 112, 133, 134, 150, 202, 234, 262, 317, 358, 384, 9001, 13388})
"""Codes of errors that may pass: a conflict, a time limit, a network between servers."""
_STATEMENT = frozenset({13, 18, 20, 26, 48, 59, 73, 115, 166, 334, 8000})
"""Codes about the collection, the rights or the server, whatever the document."""
_FOR_GOOD = frozenset({11, 13, 18, 31, 73, 334, 8000})
"""Codes of a server that refuses a connection until the user changes something."""


class MongoClient:
    """Connection pool of one of the two drivers.

    Args:
        driver: `pymongo` or `motor`.
        where: the sink's place in the configuration, for errors.
        uri: the address of the server, with options of the driver. Defaults: serverSelectionTimeoutMS=10000,
            socketTimeoutMS=30000, uuidRepresentation=standard.
        database: the database of the collections.

    Raises:
        StartupError: the driver is not installed (exit code 2).
        pymongo.errors.PyMongoError: the uri is wrong.
    """

    def __init__(self, driver: Driver, where: str, uri: str, database: str) -> None:
        given = uri.lower()  # an argument would override the uri
        options = {name: value for name, value in _DEFAULTS.items() if f"{name.lower()}=" not in given}
        self._threads = driver == "motor"
        if self._threads:
            client = require("motor.motor_asyncio", where, extra="motor").AsyncIOMotorClient
        else:
            client = require("pymongo", where, extra="mongo").AsyncMongoClient
        self._make = partial(client, uri, tz_aware=True, **options)
        self._name = database
        self._open()

    def _open(self) -> None:
        self._client = self._make()
        self._database = self._client[self._name]

    async def renew(self) -> None:
        """Replace all connections: the present ones lead to a server that is not the right one any more."""
        await self.close()
        self._open()

    def is_document(self, value: Any) -> bool:
        """Return True if the driver can encode a value, and no server finds it too large; nothing is sent."""
        import bson

        try:
            return len(bson.encode({"": value}, codec_options=self._database.codec_options)) <= MAX_DOCUMENT_BYTES
        except Exception:  # a value's own methods may raise anything
            return False

    async def ping(self) -> None:
        """Ping the database."""
        await self._run(self._database.command("ping"))

    async def bulk_write(self, collection: str, requests: list[Any]) -> None:
        """Write in order, up to the first request that fails; a cancelled write has ended when this returns."""
        await self._run(self._database[collection].bulk_write(requests, ordered=True))

    async def close(self) -> None:
        """Close all connections."""
        closing = self._client.close()
        if inspect.isawaitable(closing):
            await closing

    async def _run(self, call: Awaitable[Any]) -> Any:
        return await (to_completion(call) if self._threads else call)


def refusal(error: dict[str, Any]) -> SinkError:
    """Return the error of a refused write; the server's text, which quotes the document, is its detail.

    >>> refusal({"code": 11000, "errmsg": "E11000 duplicate key error collection: db.items dup key: { _id: 1 }"})
    SinkRejected('MongoDB refused the write with code 11000 (DuplicateKey)')
    """
    code, text, detail = error.get("code"), _coded("MongoDB refused the write", error), str(error.get("errmsg", error))
    if code in _NOT_THE_SERVER:
        return SinkNotConnected(text, detail=detail)
    if code in _FOR_NOW:
        return SinkError(text, detail=detail)
    if code in _STATEMENT:
        return SinkMisconfigured(text, "check the collection, the database and the rights of the user", detail=detail)
    return SinkRejected(text, detail=detail)


def is_for_good(error: Exception) -> bool:
    """Return True if a refused connection stays refused until the user changes something."""
    return getattr(error, "code", None) in _FOR_GOOD


def outage(error: Exception) -> SinkError:
    """Return the error of a write whose outcome is unknown; a server's answer is named by its code."""
    details = getattr(error, "details", None)
    if isinstance(details, dict) and details:
        return SinkNotConnected(_coded(f"MongoDB: {type(error).__name__}", details), detail=str(error))
    return SinkNotConnected(f"MongoDB: {type(error).__name__}: {error}")


def _coded(what: str, error: dict[str, Any]) -> str:
    code = error.get("code")
    name = error.get("codeName") or _NAMES.get(code, "")
    return f"{what} with code {code}" + (f" ({name})" if name else "")


_NAMES: dict[Any, str] = {
    2: "BadValue",
    9: "FailedToParse",
    13: "Unauthorized",
    14: "TypeMismatch",
    28: "PathNotViable",
    52: "DollarPrefixedFieldName",
    66: "ImmutableField",
    121: "DocumentValidationFailure",
    11000: "DuplicateKey",
}
"""Names of the codes that documents are refused with; servers leave them out in the errors of bulk writes."""
