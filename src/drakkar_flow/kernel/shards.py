"""Shards: the fixed shares of all keys, by which state across partitions is stored. Pure.

Every key belongs to one of 64 shards and every shard to one process, so a shard's row survives another number of
processes. Names and number never change: they are keys of stores on disk.
"""

from __future__ import annotations

from zlib import crc32

from drakkar_flow.kernel.ledger import RecordId
from drakkar_flow.kernel.routing import worker_of
from drakkar_flow.model.record import Record, TopicPartition

__all__ = ["EPOCH", "SHARDS", "owners_of_shards", "record_id", "shard_at", "shard_name", "shard_of"]

SHARDS = 64
"""Number of shards."""

EPOCH = 0
"""Epoch of every shard's ledger: a shard stays with its process as long as the flow runs."""


def shard_of(key: str) -> int:
    """Return the shard of a key, given as `key_text` returns it.

    >>> shard_of("anna"), shard_of("otto")
    (55, 62)
    """
    return crc32(key.encode()) % SHARDS


def shard_name(shard: int) -> str:
    """Return the name under which the row of a shard is stored.

    >>> shard_name(7)
    'shard-07'
    """
    return _NAMES[shard]


def shard_at(shard: int) -> TopicPartition:
    """Return the place of a shard among the ledgers of a process, where partitions have theirs: no topic is empty.

    >>> shard_at(7)
    ('', 7)
    """
    return _PLACES[shard]


def record_id(record: Record) -> RecordId:
    """Return the identity of a record, or of a share of a divided one, in the ledger of a shard.

    >>> record_id(Record("in", 3, 7))
    ('in', 3, 7, 0)
    """
    return (record.topic, record.partition, record.offset, record.share)


def owners_of_shards(processes: int) -> tuple[int, ...]:
    """Return the process of each shard: the one to which Bytewax routes the shard's name.

    >>> owners = owners_of_shards(3)
    >>> len(owners), [owners.count(process) for process in range(3)]
    (64, [23, 20, 21])
    """
    return tuple(worker_of(name, processes) for name in _NAMES)


_NAMES = tuple(f"shard-{number:02d}" for number in range(SHARDS))
_PLACES = tuple(("", number) for number in range(SHARDS))
