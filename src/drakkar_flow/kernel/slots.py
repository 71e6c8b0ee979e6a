"""Recovery slots: the fixed keys under which rows of partitions are stored. Pure.

Every topic partition belongs to one of 64 slots and every slot to one process, so a new partition or topic falls into a
slot that exists. Names and number never change: they are keys of stores on disk.
"""

from __future__ import annotations

from zlib import crc32

from drakkar_flow.model.record import TopicPartition

__all__ = ["SLOTS", "slot_of", "slots_of_process"]

SLOTS = 64
"""Number of slots."""


def slot_of(at: TopicPartition) -> str:
    """Return the slot of a topic partition; consecutive partitions of a topic have consecutive slots.

    >>> slot_of(("orders", 0)), slot_of(("orders", 1)), slot_of(("orders", 64))
    ('slot-46', 'slot-47', 'slot-46')
    """
    topic, partition = at
    return _NAMES[(crc32(topic.encode()) + partition) % SLOTS]


def slots_of_process(index: int, count: int) -> list[str]:
    """Return the slots of process `index` of `count`; every slot belongs to exactly one process.

    >>> slots_of_process(1, 30)
    ['slot-01', 'slot-31', 'slot-61']

    Raises:
        ValueError: there is no such process.
    """
    if not 0 <= index < count:
        raise ValueError(f"process {index} of {count}: the index must be from 0 to {count - 1}")
    return list(_NAMES[index::count])


_NAMES = tuple(f"slot-{number:02d}" for number in range(SLOTS))
