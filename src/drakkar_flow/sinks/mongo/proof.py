"""Proof of the target: check, without a write, what a connection alone does not show.

The proof opens and closes a connection after the sink itself has connected.
"""

from __future__ import annotations

import uuid
from typing import Any

from drakkar_flow.errors import Problem
from drakkar_flow.sinks.mongo.settings import MongoSinkConfig

__all__ = ["prove"]

_ANSWER_S = 10.0
_UNAUTHORIZED = 13


async def prove(where: str, settings: MongoSinkConfig) -> list[Problem]:
    """Check that updates are allowed, with one of a document that does not exist, so nothing is stored."""
    from pymongo import AsyncMongoClient
    from pymongo.errors import OperationFailure

    client: Any = AsyncMongoClient(settings.uri.get_secret_value(), serverSelectionTimeoutMS=int(_ANSWER_S * 1000))
    named = {statement.collection for statement in settings.statements.values()}
    problems = []
    try:
        for collection in sorted(named) or ["drakkar_flow_check"]:
            try:
                nobody = {"_id": f"drakkar-flow-check-{uuid.uuid4()}"}
                await client[settings.database][collection].update_one(nobody, {"$set": {"checked": True}})
            except OperationFailure as error:
                if error.code != _UNAUTHORIZED or named or "authentication" in str(error):
                    what = f"MongoDB refuses to write to {settings.database}.{collection}: {error}"
                    problems.append(Problem(f"{where}.uri", what, "grant this user readWrite on the database"))
    finally:
        await client.close()
    return problems
