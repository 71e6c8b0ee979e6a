"""MongoDB sink: ordered bulk writes, a run of one collection at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from drakkar_flow.config.urls import encoded
from drakkar_flow.errors import BatchFailed, SinkError, SinkMisconfigured, SinkNotConnected, SinkRejected
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.clients import client_words, refused_url, require, tls_remedy, unusable
from drakkar_flow.sinks.mongo.client import MongoClient, is_for_good, outage, refusal
from drakkar_flow.sinks.mongo.operations import Operation, operation_of
from drakkar_flow.sinks.mongo.payload import MongoOp, MongoPayload
from drakkar_flow.sinks.mongo.proof import prove
from drakkar_flow.sinks.mongo.settings import MongoSinkConfig

__all__ = ["SPEC", "MongoSink"]


class MongoSink:
    """Writes each payload with its operation, in order.

    A document that is refused (for example for a duplicate key) fails alone. When the server can't be reached or is not
    the primary any more, unwritten payloads fail and may be tried again, on new connections.

    Args:
        name: the instance's name under `sinks.mongo`.
        settings: the address and the database.
    """

    def __init__(self, name: str, settings: MongoSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._client: MongoClient | None = None

    async def connect(self) -> None:
        """Connect and ping the database.

        Raises:
            StartupError: the database can't be reached (exit code 1); it refuses the login, the uri is wrong, or the
                client is not installed (2).
        """
        where = f"sinks.mongo.{self._name}"
        require("pymongo", where, extra="mongo")
        if self._client is not None:
            return
        from pymongo.errors import ConfigurationError, PyMongoError

        client: MongoClient | None = None
        uri = self._settings.uri.get_secret_value()
        try:
            client = MongoClient(self._settings.driver, where, encoded(uri), self._settings.database)
            await client.ping()
            self._client = client
        except (OSError, PyMongoError, ValueError, TypeError) as error:
            if isinstance(error, ValueError | TypeError | ConfigurationError) and "DNS" not in str(error):
                raise refused_url(f"{where}.uri", error) from None
            what = f"MongoDB can't be used: {client_words(error, uri)}"
            if is_for_good(error):
                raise unusable(
                    f"{where}.uri", what, "check user, password, rights and database", for_good=True
                ) from None
            tls = tls_remedy(error)
            remedy = tls or "check the hosts of the uri, and that the server runs"
            raise unusable(f"{where}.uri", what, remedy, for_good=bool(tls)) from None
        finally:
            if client is not None and self._client is None:
                await client.close()

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Write the batch and wait for the server's acknowledgement.

        Raises:
            BatchFailed: some payloads were not written; those that never can be are SinkRejected or
                SinkMisconfigured.
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
        if lost is not None:
            await self._client.renew()
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
    """Write until the first failure; returns the remaining payloads and the reason why none can be written now."""
    from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure

    try:
        await client.bulk_write(collection, [_request(operation) for _, operation in operations])
    except BulkWriteError as error:
        return _after_failure(error.details, operations, failures)
    except OperationFailure as error:
        cause = refusal({"code": error.code, "errmsg": str(error), **(error.details or {})})
        if isinstance(cause, SinkNotConnected):
            return operations, cause
        if len(operations) > 1 and not isinstance(cause, SinkMisconfigured):
            return await _one_by_one(client, collection, operations, failures)
        failures.update((index, cause) for index, _ in operations)
    except (OSError, ConnectionFailure) as error:
        return operations, outage(error)
    except Exception as error:  # the client could not encode a payload, and names no index
        return await _without_bad(client, collection, operations, failures, error)
    return [], None


def _after_failure(
    details: Mapping[str, Any], operations: list[tuple[int, Operation]], failures: dict[int, Exception]
) -> tuple[list[tuple[int, Operation]], SinkError | None]:
    refused = details.get("writeErrors") or []
    if not refused:
        (concern, *_) = details.get("writeConcernErrors") or [{}]
        code = concern.get("code")
        return operations, SinkError(f"MongoDB: write concern error with code {code}", detail=str(concern))
    at, cause = refused[0]["index"], refusal(refused[0])
    if isinstance(cause, SinkNotConnected):
        return operations[at:], cause
    failures[operations[at][0]] = cause
    return operations[at + 1 :], None


async def _without_bad(
    client: MongoClient,
    collection: str,
    operations: list[tuple[int, Operation]],
    failures: dict[int, Exception],
    error: Exception,
) -> tuple[list[tuple[int, Operation]], SinkError | None]:
    """Return the operations that can be encoded; none of the others was sent."""
    from bson.errors import BSONError
    from pymongo.errors import DocumentTooLarge, InvalidName

    good = [each for each in operations if client.is_document(each[1].filter) and client.is_document(each[1].change)]
    if len(good) == len(operations) > 1:
        return await _one_by_one(client, collection, operations, failures)
    kept = {index for index, _ in good} if len(good) < len(operations) else set()
    cause = error
    if kept or isinstance(error, BSONError | DocumentTooLarge | InvalidName | TypeError | ValueError | OverflowError):
        cause = SinkRejected(f"the payload is not a document: {type(error).__name__}", detail=client_words(error))
    failures.update((index, cause) for index, _ in operations if index not in kept)
    return [each for each in good if each[0] in kept], None


async def _one_by_one(
    client: MongoClient, collection: str, operations: list[tuple[int, Operation]], failures: dict[int, Exception]
) -> tuple[list[tuple[int, Operation]], SinkError | None]:
    for number, operation in enumerate(operations):
        left, lost = await _write(client, collection, [operation], failures)
        if lost is not None:
            return left + operations[number + 1 :], lost
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


def _check(payload: MongoPayload, settings: Mapping[str, Any]) -> None:
    if payload.op is not MongoOp.STATEMENT:
        operation_of(payload, {}, any_operators=settings.get("operators") == "any")


SPEC = SinkSpec(
    kind="mongo",
    payload_type=MongoPayload,
    settings_type=MongoSinkConfig,
    make=MongoSink,
    wrap=_wrap,
    check_payload=_check,
    prove=prove,
    client="pymongo",
    not_checked="collections that only payloads name (MongoPayload.collection)",
)
"""Spec of the MongoDB sink."""
