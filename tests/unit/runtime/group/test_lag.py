"""The lag counts what can be read."""

from __future__ import annotations

from confluent_kafka import TopicPartition as KafkaPartition

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.runtime.group.buffers import Partition
from drakkar_flow.runtime.group.lag import Lag

LANE = ("in", 0)


class Client:
    """Knows the high watermark, which counts records of open and aborted transactions."""

    def __init__(self, end: int) -> None:
        self.end = end

    def get_watermark_offsets(self, partition: KafkaPartition, **_how: object) -> tuple[int, int]:
        """As confluent-kafka's consumer."""
        return 0, self.end


def lag_of(partition: Partition, client: Client) -> int:
    lag = Lag(from_end=False)
    lag.check(client, [partition], 0.0, up=True)  # type: ignore[arg-type]  # a fake of what is used
    return lag.by_partition({LANE: 6})[LANE]


def test_g11_records_that_can_not_be_read_are_no_lag() -> None:
    """Those behind the end that the client has reached; where more was read since, or reading stands, the log's end."""
    partition = Partition(LANE, 1, 6, OffsetRanges())
    partition.end = 6
    assert lag_of(partition, Client(17)) == 0
    partition.paused = True
    assert lag_of(partition, Client(17)) == 11
    partition.paused, partition.read_offset = False, 8
    assert lag_of(partition, Client(17)) == 11
