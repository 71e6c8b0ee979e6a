"""Transform steps: decode, map, filter and flat_map are synchronous, map_async waits.

Each is a function over a chunk. Any exception of the user's function, sys.exit() included, becomes a failure of its
record. The exception is KeyboardInterrupt, which is Ctrl-C in a program with its own signal handlers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

from drakkar_flow.errors import DecodeError
from drakkar_flow.kernel.ordering import KeyedQueue, Keys
from drakkar_flow.model.outcome import Ack, AckStatus, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.runtime.acknowledgement.credit import split
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.failures import describe, failure_of
from drakkar_flow.runtime.memory import Charge
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.task_order import KeysOf

__all__ = [
    "ChunkStep",
    "MapAsyncStep",
    "decode_step",
    "filter_step",
    "flat_map_step",
    "map_step",
    "passing_step",
    "shares_of",
    "sides_step",
]

ChunkStep = Callable[[Chunk[Record]], Chunk[Record]]


def decode_step(stage: str, decode: Callable[..., Any], labels: Labels, *, with_record: bool = False) -> ChunkStep:
    """Set each record's payload to the result of `decode` for its value, or for the whole record."""

    def step(chunk: Chunk[Record]) -> Chunk[Record]:
        failed: set[int] = set()
        for record in chunk.items:
            try:
                record.payload = decode(record if with_record else record.value)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                error = DecodeError(f"{labels.of(record)}: {_one_line(exc)}")
                error.__cause__ = exc
                chunk.failures.append(failure_of(FailureKind.DECODE, stage, error, ((record, record.credit),)))
                failed.add(id(record))
        if failed:
            chunk.items = [record for record in chunk.items if id(record) not in failed]
        return chunk

    return step


def passing_step(decode: ChunkStep, labels: Labels, bus: Bus) -> ChunkStep:
    """Return a decode step that passes undecodable records on: with payload None, and the error in `parse_error`."""

    def step(chunk: Chunk[Record]) -> Chunk[Record]:
        records, others = chunk.items, len(chunk.failures)
        chunk = decode(chunk)
        for failure in chunk.failures[others:]:
            record = failure.tokens[0][0]
            record.payload = None
            record.parse_error = failure.error
            what = (failure.kind, failure.stage, record.topic_partition, 1, failure.error)
            bus.emit(RecordsFailed(*what, labels.of(record), "pass", EventContext.of((record,))))
        del chunk.failures[others:]
        chunk.items = records
        return chunk

    return step


def map_step(stage: str, function: Callable[..., Any], charge: Charge, *, with_record: bool) -> ChunkStep:
    """Set each payload to the function's value."""

    def step(chunk: Chunk[Record]) -> Chunk[Record]:
        kept = []
        for record in chunk.items:
            try:
                record.payload = function(record.payload, record) if with_record else function(record.payload)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                chunk.failures.append(failure_of(FailureKind.BUSINESS, stage, exc, ((record, record.credit),)))
            else:
                kept.append(record)
        charge.payloads(kept)
        chunk.items = kept
        return chunk

    return step


def filter_step(stage: str, function: Callable[..., Any], *, with_record: bool) -> ChunkStep:
    """Finish the records for which the function returns False."""

    def step(chunk: Chunk[Record]) -> Chunk[Record]:
        kept = []
        for record in chunk.items:
            try:
                wanted = function(record.payload, record) if with_record else function(record.payload)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                chunk.failures.append(failure_of(FailureKind.BUSINESS, stage, exc, ((record, record.credit),)))
                continue
            if wanted:
                kept.append(record)
            else:
                chunk.acks.append(Ack(record, record.credit, AckStatus.DONE))
        chunk.items = kept
        return chunk

    return step


def flat_map_step(stage: str, function: Callable[..., Any], charge: Charge, *, with_record: bool) -> ChunkStep:
    """Replace each record by one per value, its credit divided among them."""

    def step(chunk: Chunk[Record]) -> Chunk[Record]:
        kept: list[Record] = []
        for record in chunk.items:
            try:
                values = list(function(record.payload, record) if with_record else function(record.payload))
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                chunk.failures.append(failure_of(FailureKind.BUSINESS, stage, exc, ((record, record.credit),)))
                continue
            if values:
                shares = shares_of(record, values)
                charge.payloads(shares)
                kept.extend(shares)
            else:
                chunk.acks.append(Ack(record, record.credit, AckStatus.DONE))
        chunk.items = kept
        return chunk

    return step


def sides_step(is_left: Callable[[str], bool], left: list[ChunkStep], right: list[ChunkStep]) -> ChunkStep:
    """Apply the steps of a side to the records of its topics; `is_left` is asked once for each topic."""
    sides: dict[str, bool] = {}

    def step(chunk: Chunk[Record]) -> Chunk[Record]:
        parts: tuple[list[Record], list[Record]] = ([], [])
        for record in chunk.items:
            side = sides.get(record.topic)
            if side is None:
                side = sides[record.topic] = is_left(record.topic)
            parts[0 if side else 1].append(record)
        chunk.items = []
        for records, functions in zip(parts, (left, right), strict=True):
            part = Chunk(records)
            for function in functions:
                part = function(part) if part.items else part
            chunk.items += part.items
            chunk.failures += part.failures
            chunk.acks += part.acks
        return chunk

    return step


def shares_of(record: Record, values: list[Any]) -> list[Record]:
    """Divide a record into one per value, its credit among them."""
    if len(values) == 1:
        record.payload = values[0]
        return [record]
    shares = []
    record.task_counter = record.task_counter or [0]  # shared, so that their tasks get different ids
    if record.held is None:
        record.held = [0]  # in common: bytes charged to one share are returned with the last
    for value, credit in zip(values, split(record.credit, len(values)), strict=True):
        share = copy(record)
        share.payload = value
        share.credit = credit
        shares.append(share)
    return shares


class MapAsyncStep(AsyncStep[Record, Record]):
    """Runs an async function for each record, a bounded number at once, and one at a time of the same key."""

    def __init__(
        self,
        context: StepContext,
        step_id: str,
        function: Callable[..., Any],
        *,
        max_in_flight: int,
        timeout_s: float | None,
        with_record: bool,
        keys: KeysOf | None = None,
    ) -> None:
        super().__init__(context, step_id)
        self._function = function
        self._keys = keys
        self._timeout_s = timeout_s
        self._with_record = with_record
        self._keyed_queue = KeyedQueue[tuple[Record, Keys]](max_in_flight)
        self._gate = context.gate
        self._charge = context.charge()
        self._pumping = False
        self._delayed = False

    def accept(self, items: list[Record]) -> None:
        """Start as many calls as fit, queue the rest."""
        for record in items:
            try:
                keys = () if self._keys is None else self._keys(record)
            except BaseException as exc:  # the user's function
                self._give_up(record, exc)
                continue
            self.open += 1
            self._keyed_queue.put((record, keys), keys)
        self._pump()

    def _pump(self, *, allowed: bool = False) -> None:
        """Start calls while there is room; one more than that if the gate `allowed` it."""
        if self._pumping or self._delayed:  # a call that did not wait has ended inside the loop below, which goes on
            return
        self._pumping = True
        try:
            while allowed or not self._gate.closed:
                if (turn := self._keyed_queue.next()) is None:
                    return
                allowed = False
                self._start(*turn)
            self._delayed = True
            self._gate.delay(self._pump_delayed)
        finally:
            self._pumping = False

    def _pump_delayed(self) -> None:
        self._delayed = False
        self._pump(allowed=True)

    def _start(self, record: Record, keys: Keys) -> None:
        if self._context.is_fenced(record):
            self.ack(((record, record.credit),), AckStatus.FENCED)
            self.open -= 1
            self._keyed_queue.release(keys)
            return
        args = (record.payload, record) if self._with_record else (record.payload,)
        function = self._bounded if self._timeout_s else self._function
        self._calls.call(function, args, partial(self._answered, record, keys), record)

    def _answered(self, record: Record, keys: Keys, value: Any, error: BaseException | None) -> None:
        if error is None:
            record.payload = value
            self._charge(record, value)
            self.emit(record)
            if self.step_id not in self._proof.works:
                self._proof.add(self.step_id)
        else:
            self._give_up(record, error)
        self.open -= 1
        self._keyed_queue.release(keys)
        self._pump()

    def _give_up(self, record: Record, error: BaseException) -> None:
        self.fail(failure_of(FailureKind.BUSINESS, self.step_id, error, ((record, record.credit),)))

    async def _bounded(self, *args: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._function(*args)
        except TimeoutError:
            raise TimeoutError(f"{self.step_id} took longer than {self._timeout_s:g} s") from None


def _one_line(error: BaseException) -> str:
    return " ".join(describe(error).split())
