"""The end of the dataflow: acknowledgements to watermarks, watermarks to commits."""

from __future__ import annotations

from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.records import RecordsFinished
from drakkar_flow.runtime.acknowledgement.commit import CommitSink, Finisher, Track, commit_by
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.testing import MemoryReader

LANE = ("input", 0)


class Watched(InFlight):
    """A flight that notes what was committed when records left it."""

    def __init__(self) -> None:
        super().__init__(100, 100)
        self.reader: MemoryReader | None = None
        self.seen: list[dict[tuple[str, int], int]] = []

    def release(self, assignment: tuple[tuple[str, int], int], count: int, size: int) -> None:
        """Look before leaving."""
        assert self.reader is not None
        self.seen.append(dict(self.reader.committed))
        super().release(assignment, count, size)


def test_a_batch_without_acknowledgements_settles_nothing() -> None:
    """The tracker is not asked for nothing."""
    step = Track().step
    assert step([]) == []
    assert step([("0", Chunk(["item"]))]) == []


def test_acknowledgements_are_committed_before_they_leave_the_flight_and_told_after() -> None:
    """Whoever waits for an empty flight finds its offsets noted; the age of the oldest goes with them."""
    in_flight = Watched()
    reader = in_flight.reader = MemoryReader(range(3), in_flight)
    reader.start()
    (records,) = reader.pop(9, 0, 1)
    events: list[RecordsFinished] = []
    bus = Bus()
    bus.listen(RecordsFinished, events.append)
    ended: list[bool] = []
    step = Track().step
    committer = CommitSink(Finisher(in_flight, bus, commit_by(reader)), lambda: ended.append(True)).build(
        "commit", 0, 1
    )

    def settle(*acks: Ack) -> None:
        committer.write_batch(step([("0", Chunk(acks=[ack])) for ack in acks]))

    settle(Ack(records[0], FULL_CREDIT), Ack(records[2], FULL_CREDIT, AckStatus.DEAD))
    assert (reader.committed, in_flight.records, in_flight.seen) == ({LANE: 1}, 1, [{LANE: 1}])
    settle(Ack(records[1], 5))
    assert len(events) == 1
    assert in_flight.statistics().oldest_s > 0
    settle(Ack(records[1], FULL_CREDIT - 5, AckStatus.SKIPPED))
    assert (reader.committed, in_flight.records, in_flight.size) == ({LANE: 3}, 0, 0)
    assert in_flight.seen[-1] == {LANE: 3}
    assert [(event.done, event.skipped, event.dead) for event in events] == [(1, 0, 1), (0, 1, 0)]
    assert all(event.oldest_latency_s is not None and event.oldest_latency_s >= 0 for event in events)
    assert ended == []
    committer.close()
    assert ended == [True]


def test_a_watermark_lets_the_flight_forget_the_ages_before_it() -> None:
    """What is committed is no longer the oldest in flight."""
    in_flight = InFlight(100, 100)
    reader = MemoryReader(range(2), in_flight)
    reader.start()
    first, _second = (reader.pop(1, 0, 1)[0][0] for _ in range(2))
    in_flight._batches[LANE, first.epoch][0] = (0, 0, first.read_at - 1000)
    committer = CommitSink(Finisher(in_flight, Bus(), commit_by(reader)), lambda: None).build("commit", 0, 1)
    assert in_flight.statistics().oldest_s > 900
    committer.write_batch(Track().step([("0", Chunk(acks=[Ack(first, FULL_CREDIT)]))]))
    assert 0 <= in_flight.statistics().oldest_s < 900
