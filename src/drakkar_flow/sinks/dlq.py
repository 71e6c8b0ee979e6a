"""Dead letter queue: a topic for records and payloads that could not be processed or delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from os import PathLike, fspath
from typing import Any, TypeVar

import msgspec

from drakkar_flow.errors import BatchFailed, SinkError
from drakkar_flow.kernel.redaction import mask
from drakkar_flow.model.outcome import Failure
from drakkar_flow.sinks.dead_letter_messages import MINIMAL, DeadLetterMessage, dead_letter_messages
from drakkar_flow.sinks.kafka.client import TooLarge, producer_config
from drakkar_flow.sinks.kafka.writer import KafkaWriter
from drakkar_flow.sinks.plain import text_of

__all__ = ["DeadLetterQueue", "as_written", "redacted"]

S = TypeVar("S", bound=msgspec.Struct)

SMALLER_BYTES = (64 * 1024, 0, MINIMAL)
"""Value sizes to which a dead letter is cut, one after the other, if the broker finds it too large."""


class DeadLetterQueue:
    """Writes failures to the dead letter topic; `dead_letter_messages` has their format.

    A dead letter that is too large is cut and has the header `drakkar.truncated`.

    Args:
        topic: an existing topic.
        brokers: bootstrap servers.
        client_config: further librdkafka producer properties.
        delivery_timeout_s: seconds after which a dead letter that no broker acknowledged counts as failed.
        include_server_detail: True if dead letters carry the answer of a sink's target.
        redact: applied to the texts that describe the failure, see `redacted`.
    """

    def __init__(
        self,
        topic: str,
        brokers: str,
        client_config: Mapping[str, Any] | None = None,
        *,
        delivery_timeout_s: float = 30.0,
        include_server_detail: bool = True,
        redact: Callable[[str], str] = mask,
    ) -> None:
        self._redact = redact
        config = producer_config(brokers, client_config or {}, delivery_timeout_s=delivery_timeout_s)
        self._include_server_detail = include_server_detail
        self._writer = KafkaWriter("dlq", topic, config)

    async def connect(self) -> None:
        """Connect to the brokers and find the topic.

        Raises:
            StartupError: the brokers can't be reached (exit code 1), the topic is missing or the
                properties are wrong (2).
        """
        await self._writer.connect()

    async def write(self, failures: Sequence[Failure]) -> None:
        """Write the dead letters of all failures; returns when the brokers have acknowledged them.

        Raises:
            BatchFailed: some failures, by index, were not written whole; the others are durable.
            SinkNotConnected: before `connect`, or after `close`.
        """
        failures = [
            as_written(failure, self._redact, include_server_detail=self._include_server_detail) for failure in failures
        ]
        now_s = time.time()
        owners: list[tuple[int, int]] = []
        letters: list[DeadLetterMessage] = []
        broken: dict[int, SinkError] = {}
        for index, failure in enumerate(failures):
            try:
                made = dead_letter_messages(failure, now_s)
            except Exception as exc:  # a bug: the dead letters of others must not wait for it
                broken[index] = SinkError(f"the dead letter can't be made: {exc!r}")
                continue
            letters += made
            owners += [(index, number) for number in range(len(made))]
        failed = await self._send(letters)
        for max_value_bytes in SMALLER_BYTES:
            large = [position for position, error in failed.items() if isinstance(error, TooLarge)]
            smaller = [
                dead_letter_messages(failures[index], now_s, max_value_bytes)[number]
                for index, number in (owners[position] for position in large)
            ]
            for position in large:
                del failed[position]
            failed |= {large[index]: error for index, error in (await self._send(smaller)).items()}
        if failed or broken:
            raise BatchFailed(broken | {owners[position][0]: error for position, error in sorted(failed.items())})

    async def close(self) -> None:
        """Write waiting dead letters, within the delivery timeout; safe to call twice and before `connect`."""
        await self._writer.close()

    async def _send(self, letters: list[DeadLetterMessage]) -> dict[int, SinkError]:
        return await self._writer.write(
            [{"value": letter.value, "key": letter.key, "headers": letter.headers} for letter in letters]
        )


def redacted(failure: Failure, redact: Callable[[str], str]) -> Failure:
    """Redact all texts that describe a failure, its program's stderr and arguments too; data stays as it is.

    >>> from drakkar_flow.model.outcome import FailureKind
    >>> failure = Failure(kind=FailureKind.HOOK, stage="arrange", error="no login at http://joe:pw@host", tokens=())
    >>> redacted(failure, mask).error
    'no login at http://********@host'
    """
    error = failure.task
    if error is not None:
        error = _changed(
            error,
            task=_changed(error.task, args=_masked(error.task.args, redact)),
            stderr=_masked(error.stderr, redact),
            exception=_masked(error.exception, redact),
            command=_masked(error.command, redact),
        )
    texts = {name: _masked(getattr(failure, name), redact) for name in ("error", "stacktrace", "detail")}
    return msgspec.structs.replace(failure, task=error, **texts)


def as_written(failure: Failure, redact: Callable[[str], str], *, include_server_detail: bool) -> Failure:
    """Return the failure as dead letters show it: redacted, without the target's answer if that is not included."""
    if not include_server_detail:
        failure = msgspec.structs.replace(failure, detail="")
    try:
        return redacted(failure, redact)
    except Exception:  # a task that a handler has spoiled; its texts must not get out anyway
        return msgspec.structs.replace(
            failure, task=None, error=_masked(failure.error, redact), stacktrace="", detail=""
        )


def _changed(struct: S, **fields: Any) -> S:
    """Return a copy with other fields; they are not checked, for a handler may have set anything."""
    struct = copy(struct)
    for name, value in fields.items():
        setattr(struct, name, value)
    return struct


def _masked(value: Any, redact: Callable[[str], str]) -> Any:
    """Redact a text, or the texts in a collection; bytes and paths with a secret become text."""
    match value:
        case str():
            return redact(value)
        case bytes() | bytearray() | PathLike():
            text = text_of(value if isinstance(value, bytes | bytearray) else fspath(value))
            return value if (safe := redact(text)) == text else safe
        case list() | tuple() | set() | frozenset():
            return [_masked(each, redact) for each in value]
        case dict():
            return {_masked(key, redact): _masked(each, redact) for key, each in value.items()}
    return value
