"""MongoDB client: one interface to PyMongo's async client and to motor, and what their errors say."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, Literal

from drakkar_flow.errors import SinkError, SinkRejected
from drakkar_flow.sinks.clients import require
from drakkar_flow.sinks.threads import to_completion

__all__ = ["MongoClient", "outage", "refusal"]

SELECT_MS = 10_000
"""How long a server is looked for, unless the uri says otherwise."""
SOCKET_MS = 30_000

Driver = Literal["pymongo", "motor"]


class MongoClient:
    """Connection pool of one of the two drivers.

    Args:
        driver: `pymongo` or `motor`.
        where: the sink's place in the configuration, for errors.
        uri: where the server is; a `uuidRepresentation` in it is kept, `standard` is the default.
        database: the database that collections are looked up in.

    Raises:
        StartupError: the driver is not installed (exit code 2).
        pymongo.errors.PyMongoError: the uri is wrong.
    """

    def __init__(self, driver: Driver, where: str, uri: str, database: str) -> None:
        options: dict[str, Any] = {
            "serverSelectionTimeoutMS": SELECT_MS,
            "socketTimeoutMS": SOCKET_MS,
            "tz_aware": True,
        }
        if "uuidrepresentation=" not in uri.lower():
            options["uuidRepresentation"] = "standard"
        self._threads = driver == "motor"
        if self._threads:
            self._client = require("motor.motor_asyncio", where, extra="motor").AsyncIOMotorClient(uri, **options)
        else:
            self._client = require("pymongo", where, extra="mongo").AsyncMongoClient(uri, **options)
        self._database = self._client[database]

    async def ping(self) -> None:
        """Ask the database for a sign of life."""
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


def refusal(error: dict[str, Any]) -> SinkRejected:
    """The reason for a document that the server refused; its words, which quote the document, are the detail.

    >>> refusal({"code": 11000, "errmsg": "E11000 duplicate key error collection: db.items dup key: { _id: 1 }"})
    SinkRejected('MongoDB refused the write with code 11000 (DuplicateKey)')
    """
    return SinkRejected(_coded("MongoDB refused the write", error), detail=str(error.get("errmsg", error)))


def outage(error: Exception) -> SinkError:
    """The reason for a write of which nothing is known; a server's answer is named by its code."""
    details = getattr(error, "details", None)
    if isinstance(details, dict) and details:
        return SinkError(_coded(f"MongoDB: {type(error).__name__}", details), detail=str(error))
    return SinkError(f"MongoDB: {type(error).__name__}: {error}")


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
