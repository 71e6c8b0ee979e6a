"""Exchange: sends records to the processes that have the shards of their keys."""

from __future__ import annotations

import pickle
from zlib import crc32

from drakkar_flow.errors import StateError
from drakkar_flow.graph.nodes import Stateful
from drakkar_flow.kernel.columns import Message, pack
from drakkar_flow.kernel.shards import SHARDS
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Record
from drakkar_flow.runtime.acknowledgement.finished_shares import FinishedShares
from drakkar_flow.runtime.across.home import Away
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.chunk import Chunk, Keyed
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.state_step import StateKeys

__all__ = ["ExchangeStep", "Parcel"]

Parcel = tuple[str, Chunk[Record] | Message]
"""Records for one process with the key that Bytewax routes to it: as they are within this process."""


class ExchangeStep:
    """Step function over a batch of chunks: one parcel per process, and what stays with the chunk it came in.

    A payload that can't be sent is a failure of its record. The first payload of each type is tried even if it stays,
    so that a mistake does not depend on the number of processes.

    Args:
        step_id: the step with state that the records travel to.
        shards: the processes of the shards.
        away: gets the records that leave.
        finished: shares of divided records that were finished before this start; None if no step divides records.
    """

    def __init__(
        self,
        step_id: str,
        node: Stateful,
        shards: Shards,
        away: Away,
        labels: Labels,
        finished: FinishedShares | None = None,
    ) -> None:
        self._step_id = step_id
        self._keys = StateKeys(step_id, node.key, labels, with_record=node.with_record)
        self._shards = shards
        self._away = away
        self._labels = labels
        self._finished = finished
        self._sendable: set[type] = set()

    def __call__(self, batch: list[Keyed]) -> list[Parcel]:
        """Return the parcels of a batch."""
        home, keys = self._shards.keys[self._shards.process], self._shards.keys
        parcels: list[Parcel] = []
        leaving: dict[int, list[Record]] = {}
        for _, chunk in batch:
            chunk.items = self._staying(chunk, leaving)
            if chunk:
                parcels.append((home, chunk))
        for process, records in leaving.items():
            failed: Chunk[Record] = Chunk()
            message = self._message(records, failed)
            if message is not None:
                parcels.append((keys[process], message))
            if failed:
                parcels.append((home, failed))
        return parcels

    def _staying(self, chunk: Chunk[Record], leaving: dict[int, list[Record]]) -> list[Record]:
        """Return the records of a chunk that stay in this process, and add the others to those of theirs."""
        destinations, sendable, here = self._shards.destinations, self._sendable, self._shards.process
        staying: list[Record] = []
        shares: dict[tuple[str, int, int], int] = {}
        for record, text in self._keys.keyed(chunk, chunk.items):
            if type(record.payload) not in sendable and not self._is_sendable(record, chunk):
                continue
            shard = crc32(text.encode()) % SHARDS  # `shard_of`, without the call
            record.shard, record.state_key = shard, text
            if record.credit != FULL_CREDIT and self._is_known(record, shares):
                chunk.acks.append(Ack(record, record.credit, AckStatus.DONE))
                continue
            process = destinations[shard]
            if process == here:
                staying.append(record)
            elif process in leaving:
                leaving[process].append(record)
            else:
                leaving[process] = [record]
        return staying

    def _is_known(self, record: Record, shares: dict[tuple[str, int, int], int]) -> bool:
        """Give a share its number; returns True if it was finished before this start."""
        at = (record.topic, record.partition, record.offset)
        record.share = shares[at] = shares.get(at, -1) + 1
        known = None if self._finished is None else self._finished.known(record.topic_partition).get(record.offset)
        if known is None or record.share not in known:
            return False
        record.shard = -1
        return True

    def _is_sendable(self, record: Record, chunk: Chunk[Record]) -> bool:
        """Try a payload of a type that was not sent before; one that can't be sent is a failure."""
        try:
            pickle.loads(pickle.dumps(record.payload, 5))  # noqa: S301 - our own
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            self._refuse(record, exc, chunk)
            return False
        self._sendable.add(type(record.payload))
        return True

    def _message(self, records: list[Record], failed: Chunk[Record]) -> Message | None:
        """Write records as a message; those that can't be sent are failures."""
        try:
            message = pack(records)
        except KeyboardInterrupt:
            raise
        except BaseException:
            sent = [record for record in records if self._is_sendable(record, failed)]
            if len(sent) == len(records):  # not the payloads: an error of the library
                raise
            return self._message(sent, failed) if sent else None
        self._away.add(records)
        return message

    def _refuse(self, record: Record, error: BaseException, chunk: Chunk[Record]) -> None:
        what = (
            f"{self._labels.of(record)} can't be sent to the process of its key: its payload, "
            f"{type(record.payload).__name__}, can't be pickled: {describe(error)}"
        )
        refused = StateError(what)
        refused.__cause__ = error
        record.shard = -1  # it did not go there, so its credit returns without
        self._keys.fail(chunk, record, refused)
