"""Arrival: records of all processes reach the shards of this one, once the shards have their rows."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from bytewax import operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from drakkar_flow.errors import StateError
from drakkar_flow.kernel.columns import Message, payloads_of, records_of
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.failures import describe, failure_of

__all__ = ["arrival_step"]

_ALWAYS_DUE = datetime(1970, 1, 1, tzinfo=UTC)
_by_shard = attrgetter("shard")


class _Arrival(StatefulBatchLogic[Chunk[Record] | Message, Chunk[Record], None]):
    """Makes chunks of parcels, their records sorted by shard.

    Parcels wait until the shards have their rows: another process may be ahead. What waits is bounded by what the
    processes may have in flight.
    """

    def __init__(self, step_id: str, shards: Shards, in_flight: InFlight) -> None:
        self._step_id = step_id
        self._shards = shards
        self._in_flight = in_flight
        self._waiting: list[Chunk[Record] | Message] = []
        self._used = False

    def on_batch(self, values: list[Chunk[Record] | Message]) -> tuple[list[Chunk[Record]], bool]:
        self._used = True
        self._waiting += values
        return self._take(), False

    def on_notify(self) -> tuple[list[Chunk[Record]], bool]:
        # Without an item the key is from the recovery store, perhaps of a cluster of another size: it would stay.
        return self._take(), not self._used

    def on_eof(self) -> tuple[list[Chunk[Record]], bool]:
        return self._take(), True

    def notify_at(self) -> datetime | None:
        return _ALWAYS_DUE if self._waiting or not self._used else None

    def snapshot(self) -> None:
        # Unfinished records are read again.
        return None

    def _take(self) -> list[Chunk[Record]]:
        if not self._waiting or not self._shards.ready:
            return []
        waiting, self._waiting = self._waiting, []
        self._in_flight.engine.wake()  # items of another process ring no bell
        return [self._chunk(parcel) for parcel in waiting]

    def _chunk(self, parcel: Chunk[Record] | Message) -> Chunk[Record]:
        chunk = parcel if isinstance(parcel, Chunk) else self._unpacked(parcel)
        chunk.items.sort(key=_by_shard)  # stable: records of a key stay in order
        self._shards.expect(chunk.items)
        return chunk

    def _unpacked(self, message: Message) -> Chunk[Record]:
        records = records_of(message)
        self._in_flight.receive(records)
        try:
            payloads = payloads_of(message)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            return self._unreadable(records, exc)
        if payloads is not None:
            for record, payload in zip(records, payloads, strict=True):
                record.payload = payload
        return Chunk(records)

    def _unreadable(self, records: list[Record], error: BaseException) -> Chunk[Record]:
        """Return failures: one of the payloads can't be read, and those behind it are not known."""
        self._shards.expect(records)
        what = f"the payloads of {len(records)} records from another process can't be unpickled: {describe(error)}"
        refused = StateError(what)
        refused.__cause__ = error
        business = FailureKind.BUSINESS
        failures = [failure_of(business, self._step_id, refused, ((record, record.credit),)) for record in records]
        return Chunk(None, failures)


def arrival_step(step_id: str, up: KeyedStream[Any], of: str, shards: Shards, in_flight: InFlight) -> KeyedStream[Any]:
    """Lower the arrival; `of` is the step with state that the records travel to."""
    return op.stateful_batch(step_id, up, lambda _resume: _Arrival(of, shards, in_flight))
