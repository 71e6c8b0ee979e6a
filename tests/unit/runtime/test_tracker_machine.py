"""The tracker against a model that keeps everything and recounts from the start each time."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import Credit, Record, TopicPartition, Watermark
from drakkar_flow.runtime.acknowledgement.credit import CreditPool, split
from drakkar_flow.runtime.acknowledgement.tracker import _REMEMBERED_EPOCHS, Tracker, TrackerStatistics

LANES: list[TopicPartition] = [("in", 0), ("in", 1), ("other", 0)]
BY_BADNESS = [AckStatus.DONE, AckStatus.SKIPPED, AckStatus.DEAD]

topic_partitions = st.sampled_from(LANES)
starts = st.integers(min_value=0, max_value=40) | st.integers(min_value=2**31 - 3, max_value=2**40)
gaps = st.just(1) | st.integers(min_value=1, max_value=5) | st.just(2**31)
picks = st.integers(min_value=0, max_value=10**6)
statuses = st.sampled_from([AckStatus.DONE, AckStatus.DONE, *BY_BADNESS])


@dataclass(eq=False)
class Delivered:
    """A record and how its branches ended so far."""

    record: Record
    outstanding: int = 1
    worst: int = 0


@dataclass
class LaneTruth:
    """A partition: what was delivered in each epoch, and which epoch the tracker can know of."""

    epoch: int = 0
    next_offset: int = 0
    delivered: dict[int, list[Delivered]] = field(default_factory=lambda: {0: []})
    known: int = -1
    is_open: bool = False

    def learn(self, epoch: int, *, is_open: bool) -> None:
        """An acknowledgement or a revoke told of an epoch."""
        if epoch > self.known:
            self.known, self.is_open = epoch, is_open

    def finished(self) -> tuple[list[int], OffsetRanges]:
        """The finished offsets of the known epoch: the longest beginning, and the spans after it."""
        beginning: list[int] = []
        out_of_order = OffsetRanges()
        complete = True
        for one in self.delivered.get(self.known, []) if self.is_open else []:
            complete = complete and not one.outstanding
            if complete:
                beginning.append(one.record.offset)
            elif not one.outstanding:
                out_of_order.add(one.record.previous + 1, one.record.offset + 1)
        return beginning, out_of_order

    def committable(self) -> tuple[int, int] | None:
        """The epoch and the offset that may be committed."""
        beginning, _ = self.finished()
        return (self.known, beginning[-1] + 1) if beginning else None


class TrackerMachine(RuleBasedStateMachine):
    """Delivers, divides, returns, repeats, revokes and assigns in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker()
        self.truth = {topic_partition: LaneTruth() for topic_partition in LANES}
        self.shares: list[tuple[Delivered, Credit]] = []
        self.finished: list[Delivered] = []

    @initialize(offsets=st.tuples(starts, starts, starts))
    def start(self, offsets: tuple[int, int, int]) -> None:
        """Each partition starts somewhere."""
        for topic_partition, offset in zip(LANES, offsets, strict=True):
            self.truth[topic_partition].next_offset = offset

    @rule(
        topic_partition=topic_partitions,
        steps=st.lists(gaps, min_size=1, max_size=6),
        size=st.integers(min_value=0, max_value=9),
    )
    def deliver(self, topic_partition: TopicPartition, steps: list[int], size: int) -> None:
        """Records arrive, with gaps between their offsets."""
        truth = self.truth[topic_partition]
        chain = truth.delivered[truth.epoch]
        for gap in steps:
            previous = chain[-1].record.offset if chain else -1
            offset = truth.next_offset
            one = Delivered(
                Record(
                    *topic_partition,
                    offset,
                    value=b"v" * size,
                    key=b"k" * (offset % 3) or None,
                    epoch=truth.epoch,
                    previous=previous,
                )
            )
            chain.append(one)
            self.shares.append((one, one.record.credit))
            truth.next_offset = offset + gap

    @precondition(lambda self: self.shares)
    @rule(pick=picks, n=st.integers(min_value=1, max_value=5))
    def divide(self, pick: int, n: int) -> None:
        """A share is divided again."""
        self.replace(pick, lambda credit: split(credit, n))

    @precondition(lambda self: self.shares)
    @rule(pick=picks, n=st.integers(min_value=0, max_value=4))
    def give_out(self, pick: int, n: int) -> None:
        """A share is given out by a credit pool."""

        def components(credit: Credit) -> list[Credit]:
            credit_pool = CreditPool(credit)
            return [*(credit_pool.allocate() for _ in range(n)), credit_pool.drain()]

        self.replace(pick, components)

    def replace(self, pick: int, components: Callable[[Credit], list[Credit]]) -> None:
        """Put parts in the place of a share."""
        one, credit = self.shares.pop(pick % len(self.shares))
        shares = components(credit)
        one.outstanding += len(shares) - 1
        self.shares.extend((one, share) for share in shares)

    @precondition(lambda self: self.shares)
    @rule(returns=st.lists(st.tuples(picks, statuses), min_size=1, max_size=12), repeats=st.lists(picks, max_size=3))
    def settle(self, returns: list[tuple[int, AckStatus]], repeats: list[int]) -> None:
        """Shares return in any order, mixed with repetitions."""
        acks = []
        for pick, status in returns:
            if self.shares:
                acks.append(self.take_back(pick % len(self.shares), status))
        self.check_settle(acks, repeats)

    @precondition(lambda self: self.shares)
    @rule(topic_partition=topic_partitions, count=st.integers(min_value=1, max_value=30))
    def settle_in_order(self, topic_partition: TopicPartition, count: int) -> None:
        """A run of one partition returns in the order of delivery."""
        acks = []
        for _ in range(count):
            index = next(
                (i for i, (one, _) in enumerate(self.shares) if one.record.topic_partition == topic_partition), None
            )
            if index is not None:
                acks.append(self.take_back(index, AckStatus.DONE))
        self.check_settle(acks, [])

    @precondition(lambda self: self.finished)
    @rule(repeats=st.lists(picks, min_size=1, max_size=5))
    def repeat(self, repeats: list[int]) -> None:
        """Finished records are acknowledged again."""
        self.check_settle([], repeats)

    @rule(topic_partition=topic_partitions, skip=st.integers(min_value=1, max_value=3), start=starts)
    def assign(self, topic_partition: TopicPartition, skip: int, start: int) -> None:
        """A partition is assigned anew and starts anywhere, lower too."""
        truth = self.truth[topic_partition]
        truth.epoch += skip
        truth.delivered[truth.epoch] = []
        truth.next_offset = start

    @rule()
    def recover(self) -> None:
        """The tracker is saved and restored."""
        self.tracker = pickle.loads(pickle.dumps(self.tracker))

    def take_back(self, index: int, status: AckStatus) -> tuple[Delivered, Ack]:
        """Remove a share and make its acknowledgement."""
        one, credit = self.shares.pop(index)
        return one, Ack(one.record, credit, status)

    def check_settle(self, returns: list[tuple[Delivered, Ack]], repeats: list[int]) -> None:
        """Settle and compare what the tracker tells with what the model counts."""
        before = {topic_partition: truth.committable() for topic_partition, truth in self.truth.items()}
        out_of_order_ranges = {
            topic_partition: list(truth.finished()[1]) for topic_partition, truth in self.truth.items()
        }
        acks = self.repetitions(repeats)
        counts: Counter[AckStatus] = Counter()
        size = 0
        for one, ack in returns:
            acks.append(ack)
            one.outstanding -= 1
            one.worst = max(one.worst, BY_BADNESS.index(ack.status))
            self.truth[one.record.topic_partition].learn(one.record.epoch, is_open=True)
            if not one.outstanding:
                self.finished.append(one)
                counts[BY_BADNESS[one.worst]] += 1
                size += one.record.size
        settled = self.tracker.settle(acks)

        after = {topic_partition: truth.committable() for topic_partition, truth in self.truth.items()}
        moved = {
            Watermark(topic_partition, *now)
            for topic_partition, now in after.items()
            if now and now != before[topic_partition]
        }
        assert set(settled.watermarks) == moved
        assert len(settled.watermarks) == len(moved)
        assert (settled.done, settled.skipped, settled.dead) == tuple(counts[status] for status in BY_BADNESS)
        assert sum(size for _, size in settled.finished.values()) == size
        for (topic_partition, epoch), ranges in settled.out_of_order_ranges.items():
            assert ranges == len(self.tracker.out_of_order(topic_partition, epoch))
        self.check_scattered(out_of_order_ranges, settled.out_of_order_ranges)

    def check_scattered(
        self, before: dict[TopicPartition, list[tuple[int, int]]], told: Mapping[tuple[TopicPartition, int], int]
    ) -> None:
        """Whoever writes the map learns of every change of it."""
        for topic_partition, truth in self.truth.items():
            now = list(truth.finished()[1])
            if now != before[topic_partition] and truth.is_open and now:
                assert (topic_partition, truth.known) in told

    def repetitions(self, repeats: list[int]) -> list[Ack]:
        """Acknowledgements of finished records, whole or in part, of epochs still remembered."""
        known = [one for one in self.finished if self.is_remembered(one.record.topic_partition, one.record.epoch)]
        again = [known[pick % len(known)] for pick in repeats if known]
        return [Ack(one.record, one.record.credit - n % 2, BY_BADNESS[n % 3]) for n, one in enumerate(again)]

    def is_remembered(self, topic_partition: TopicPartition, epoch: int) -> bool:
        """Whether the tracker promises to know what finished in an epoch."""
        return epoch >= self.truth[topic_partition].known - _REMEMBERED_EPOCHS

    @invariant()
    def positions_are_true(self) -> None:
        """A partition may be committed up to its first unfinished record, exactly."""
        for topic_partition, truth in self.truth.items():
            committable = truth.committable()
            assert self.tracker.position(topic_partition) == (committable[1] if committable else None)
            assert list(self.tracker.out_of_order(topic_partition, truth.known)) == list(truth.finished()[1])

    @invariant()
    def memory_is_bounded(self) -> None:
        """Only records that are in flight, or finished behind one that is, are remembered."""
        statistics = self.tracker.statistics()
        assert statistics.topic_partitions <= len(LANES)
        assert statistics.partial <= len({id(one) for one, _ in self.shares})
        unfinished = [
            chain
            for topic_partition, truth in self.truth.items()
            for epoch, chain in truth.delivered.items()
            if any(one.outstanding for one in chain) or not self.is_remembered(topic_partition, epoch)
        ]
        assert statistics.out_of_order <= sum(map(len, unfinished))

    def teardown(self) -> None:
        """When everything returned, every open partition is at its end; the next epoch finds nothing left."""
        self.check_settle([self.take_back(0, AckStatus.DONE) for _ in range(len(self.shares))], [])
        for topic_partition, truth in self.truth.items():
            chain = truth.delivered.get(truth.known, []) if truth.is_open else []
            assert self.tracker.position(topic_partition) == (chain[-1].record.offset + 1 if chain else None)
        assert self.tracker.statistics().partial == 0
        for topic_partition in LANES:
            self.assign(topic_partition, 1, 0)
            self.deliver(topic_partition, [1], 1)
        self.check_settle([self.take_back(0, AckStatus.DONE) for _ in LANES], [])
        assert self.tracker.statistics() == TrackerStatistics(topic_partitions=len(LANES), partial=0, out_of_order=0)


TestTracker = TrackerMachine.TestCase
TestTracker.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
