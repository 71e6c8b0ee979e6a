"""Record: one message of a source partition on its way through a flow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, cast

from typing_extensions import TypeVar

from drakkar_flow.model.base import Model
from drakkar_flow.model.task import ExecutorTask

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from drakkar_flow.model.task_fields import TaskFields

__all__ = ["FULL_CREDIT", "Credit", "Record", "SourceMessage", "TopicPartition", "Watermark", "size_of"]

TopicPartition = tuple[str, int]
"""A source partition: (topic, partition). All state of offsets is kept per topic partition."""

FULL_CREDIT = 1 << 40
"""Initial credit of a record: divided when it fans out, returned when a branch ends."""

Credit = Any
"""`int`, or `fractions.Fraction` for a share below 1 (see `runtime.acknowledgement.credit`)."""


PayloadT = TypeVar("PayloadT", default=Any)


class Record(Model, Generic[PayloadT], gc=False):
    """One message read from a source partition; py-drakkar's `SourceMessage`.

    `Record[Document]` gives `payload` a type for type checkers; at run time it is the same class.

    `topic`, `partition`, `offset`, `key`, `value`, `timestamp` (ms since the epoch, -1 when the
    broker gave none) and `headers` are the message as the broker holds it and never change.
    A tombstone (a message without a value) has an empty `value` and `is_tombstone` set.
    `payload` starts as None; the steps of a flow replace it: by the decoded model, then by the
    result of `map`. `parse_error` is for a handler that decodes itself and continues with records
    that it could not decode.

    The rest is the record's identity for acknowledgement: `epoch` counts the assignments of its
    partition to this process, `previous` is the offset delivered before it in the same assignment
    (-1 for the first), and `credit` must be returned before it counts as finished. `read_at` is the
    monotonic time in seconds at which it was read. `held` has the bytes of values made for it, in
    one list that all shares of the record have in common; None if there are none.

    >>> Record(topic="in", partition=0, offset=7, value=b"{}").label
    'in:0:7'
    """

    topic: str
    partition: int
    offset: int
    value: bytes = b""
    key: bytes | None = None
    timestamp: int = -1
    headers: list[tuple[str, bytes]] | None = None
    payload: PayloadT = cast("PayloadT", None)
    epoch: int = 0
    previous: int = -1
    credit: Credit = FULL_CREDIT
    read_at: float = 0.0
    is_tombstone: bool = False
    parse_error: str | None = None
    held: list[int] | None = None
    task_counter: list[int] | None = None
    """Number of tasks made of it; one list for all shares of a divided record."""
    shard: int = -1
    """Shard of its key of state across partitions; -1 without one."""
    state_key: str = ""
    """Its key of state across partitions, as text."""
    share: int = 0
    """Number of this share among those of a divided record that were sent to shards."""

    _internal: ClassVar[frozenset[str]] = frozenset(
        {"epoch", "previous", "credit", "read_at", "held", "task_counter", "shard", "state_key", "share"}
    )

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition this record came from."""
        return (self.topic, self.partition)

    @property
    def label(self) -> str:
        """The record's id in logs and errors: topic:partition:offset."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    def task(self, task_id: str = "", **fields: Unpack[TaskFields]) -> ExecutorTask:
        """Make a task for this record; every field of `ExecutorTask` but `source_offsets` may be given.

        Without a `task_id` the first task has the record's id and the others a number after it. The ids are the same
        after a restart, as long as `arrange` makes a record's tasks in the same order.

        >>> record = Record(topic="in", partition=0, offset=7)
        >>> [record.task(args=[name]).task_id for name in ("a", "b")], record.task().source_offsets
        (['in:0:7', 'in:0:7-2'], [7])

        Raises:
            TypeError: a field is of a wrong type; the text names the task, the field and the value.
        """
        return ExecutorTask(task_id=task_id or self.next_task_id(), source_offsets=[self.offset], **fields)

    def next_task_id(self) -> str:
        """The id of the next task that is made of this record."""
        counter = self.task_counter
        if counter is None:
            counter = self.task_counter = [0]
        counter[0] += 1
        return self.label if counter[0] == 1 else f"{self.label}-{counter[0]}"

    @property
    def size(self) -> int:
        """The bytes of key and value, which in-flight limits count."""
        return len(self.value) + (len(self.key) if self.key else 0)


def size_of(records: Iterable[Record]) -> int:
    """The bytes of all `records`: read twice for each, at half the price of its property.

    >>> size_of([Record("in", 0, 7, b"{}"), Record("in", 0, 8, b"{}", b"key")])
    7
    """
    return sum([len(record.value) + (len(record.key) if record.key else 0) for record in records])


SourceMessage = Record
"""py-drakkar's name for a record."""


class Watermark(NamedTuple):
    """Committable offset of a topic partition: one past the last finished record."""

    topic_partition: TopicPartition
    epoch: int
    offset: int
