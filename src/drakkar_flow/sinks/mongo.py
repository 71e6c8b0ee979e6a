"""The MongoDB sink: ordered bulk writes, a run of one collection at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from drakkar_flow.config.remote import MongoSinkConfig
from drakkar_flow.errors import BatchFailed, Problem, SinkError, SinkNotConnected, SinkRejected, StartupError
from drakkar_flow.model.mongo import MongoOp, MongoPayload
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.base import SinkSpec
from drakkar_flow.sinks.clients import require
from drakkar_flow.sinks.mongo_client import MongoClient, outage, refusal
from drakkar_flow.sinks.mongo_ops import Operation, operation_of

__all__ = ["SPEC", "MongoSink"]


class MongoSink:
    """Writes each payload as its operation says, in order.

    A document that is refused (a duplicate key, say) fails alone. When the server can't be reached,
    what was not written yet fails and may be tried again.

    Args:
        name: the instance's name under `sinks.mongo`.
        settings: where the database is.
    """

    def __init__(self, name: str, settings: MongoSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._client: MongoClient | None = None

    async def connect(self) -> None:
        """Connect and ask the database for a sign of life.

        Raises:
            StartupError: it can't be reached or refuses us (exit code 1), or the client is not installed (2).
        """
        where = f"sinks.mongo.{self._name}"
        require("pymongo", where, extra="mongo")
        if self._client is not None:
            return
        from pymongo.errors import PyMongoError

        client: MongoClient | None = None
        uri = self._settings.uri.get_secret_value()
        try:
            client = MongoClient(self._settings.driver, where, uri, self._settings.database)
            await client.ping()
        except (OSError, PyMongoError) as error:
            if client is not None:
                await client.close()
            what = f"MongoDB can't be reached: {type(error).__name__}: {error}"
            remedy = "check hosts, user and password of the uri, and that the server runs"
            raise StartupError([Problem(f"{where}.uri", what, remedy)]) from None
        self._client = client

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Write the batch and wait for the server's word.

        Raises:
            BatchFailed: some payloads were not written; those that can't be are SinkRejected.
            SinkNotConnected: before `connect`, or after `close`.
        """
        if self._client is None:
            raise SinkNotConnected(f"sinks.mongo.{self._name} is not connected; connect() comes first")
        failures: dict[int, Exception] = {}
        operations: list[tuple[int, Operation]] = []
        for index, delivery in enumerate(batch):
            try:
                operations.append((index, self._operation(delivery.payload)))
            except SinkRejected as error:
                failures[index] = error
        lost: SinkError | None = None
        for name, run in groupby(operations, key=lambda item: item[1].collection):
            left = list(run)
            while left and lost is None:
                left, lost = await _write(self._client, name, left, failures)
            failures.update((index, lost) for index, _ in left if lost is not None)
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Disconnect; safe to call twice and before `connect`."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _operation(self, payload: MongoPayload) -> Operation:
        any_operators = self._settings.operators == "any"
        return operation_of(payload, self._settings.statements, any_operators=any_operators)


async def _write(
    client: MongoClient, collection: str, operations: list[tuple[int, Operation]], failures: dict[int, Exception]
) -> tuple[list[tuple[int, Operation]], SinkError | None]:
    """Write until the first refusal; gives what is left behind it, and why none of that can be written now."""
    from bson.errors import BSONError
    from pymongo.errors import BulkWriteError, DocumentTooLarge, PyMongoError

    try:
        await client.bulk_write(collection, [_request(operation) for _, operation in operations])
    except BulkWriteError as error:
        refused = error.details.get("writeErrors") or []
        if not refused:
            (concern, *_) = error.details.get("writeConcernErrors") or [{}]
            code = concern.get("code")
            return operations, SinkError(f"MongoDB: write concern error with code {code}", detail=str(concern))
        at = refused[0]["index"]
        failures[operations[at][0]] = refusal(refused[0])
        return operations[at + 1 :], None
    except (BSONError, DocumentTooLarge, TypeError, OverflowError) as error:
        if len(operations) > 1:  # the client names no index: find it one by one
            return await _one_by_one(client, collection, operations, failures)
        failures[operations[0][0]] = SinkRejected(
            f"the payload is no document: {type(error).__name__}", detail=str(error)
        )
    except (OSError, PyMongoError) as error:
        return operations, outage(error)
    return [], None


async def _one_by_one(
    client: MongoClient, collection: str, operations: list[tuple[int, Operation]], failures: dict[int, Exception]
) -> tuple[list[tuple[int, Operation]], SinkError | None]:
    for number, operation in enumerate(operations):
        _, lost = await _write(client, collection, [operation], failures)
        if lost is not None:
            return operations[number:], lost
    return [], None


def _request(operation: Operation) -> Any:
    from pymongo import DeleteMany, DeleteOne, InsertOne, UpdateMany, UpdateOne

    _, op, where, change = operation
    match op:
        case MongoOp.INSERT:
            return InsertOne(dict(change))  # the client adds an _id
        case MongoOp.UPDATE_MANY:
            return UpdateMany(where, change)
        case MongoOp.DELETE_ONE:
            return DeleteOne(where)
        case MongoOp.DELETE_MANY:
            return DeleteMany(where)
        case _:
            return UpdateOne(where, change, upsert=op is MongoOp.UPSERT)


def _wrap(value: Any, _record: Record, name: str, _settings: MongoSinkConfig) -> MongoPayload:
    return MongoPayload(collection=name, data=value, sink=name)


SPEC = SinkSpec(
    kind="mongo",
    payload_type=MongoPayload,
    settings_type=MongoSinkConfig,
    make=MongoSink,
    wrap=_wrap,
)
"""What the library knows about MongoDB sinks."""
