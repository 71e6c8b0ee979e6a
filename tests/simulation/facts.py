"""Facts: what happened to each record, as its functions, programs and targets saw it, and what still has to happen.

A record's processing in one assignment is a `Course`. User functions say what they owe for it: "this share must reach
sink a", "this failure must become a dead letter". Targets say what they got. So a record is finished if all its debts
are paid, whatever the library thinks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.outcome import Ack, AckStatus
from drakkar_flow.model.record import FULL_CREDIT, Record
from simulation.scheduler import Scheduler

__all__ = ["Course", "Facts", "Place"]


class Place(NamedTuple):
    """A record's processing in one assignment: number of the process, epoch, partition and offset."""

    life: int
    epoch: int
    partition: int
    offset: int

    @classmethod
    def of(cls, life: int, record: Record) -> Place:
        """Return the place of a record in a process."""
        return cls(life, record.epoch, record.partition, record.offset)


@dataclass
class Course:
    """What happened to a record in one assignment."""

    debts: dict[str, bool] = field(default_factory=dict)
    """By name: True once it is paid."""
    repeatable: Counter[str] = field(default_factory=Counter)
    """Debts that may be paid again: a target took a write and did not say so."""
    changes: list[tuple[StateKey, int, str]] = field(default_factory=list)
    """Changes of state: key, number of the change in the order of all, and the entry that was appended."""
    credit: int = 0
    fenced: bool = False
    is_finished: bool = False

    @property
    def open_debts(self) -> list[str]:
        """Names of the debts that are not paid."""
        return [name for name, paid in self.debts.items() if not paid]


class _Assigned:
    """The present assignment of a partition."""

    def __init__(self, epoch: int, offset: int, finished: OffsetRanges) -> None:
        self.epoch = epoch
        self.start = offset
        self.known = finished

    def knew(self, offset: int) -> bool:
        """Return True if a record was finished before the assignment began."""
        return offset < self.start or offset in self.known


class Facts:
    """Facts of one seed, over all processes. Raises a Violation as soon as an invariant does not hold."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.life = 0
        """Number of the present process."""
        self.logs: dict[int, list[int]] = {}
        """Offsets that exist, by partition."""
        self.courses: dict[Place, Course] = {}
        self.kept: dict[tuple[int, int], Course] = {}
        """By partition and offset: the processing that counts, because it is committed or on disk."""
        self.delivered = 0
        self._changes = 0
        self._assigned: dict[int, _Assigned] = {}
        self._ended: dict[int, _Assigned] = {}
        self._fenced: set[tuple[int, int]] = set()
        self._started: dict[tuple[object, ...], int] = {}

    # --- assignments ----------------------------------------------------------------------------

    def begin_life(self) -> None:
        """Begin with the next process."""
        self.life += 1
        self._assigned.clear()
        self._ended.clear()
        self._fenced.clear()

    def assigned(self, partition: int, epoch: int, offset: int, finished: OffsetRanges) -> None:
        """Note an assignment, and what is finished when it begins."""
        for each in self.logs[partition]:
            if (each < offset or each in finished) and (partition, each) not in self.kept:
                raise self.scheduler.fail(f"{partition}:{each} is finished for its next owner, and was never processed")
        self._assigned[partition] = _Assigned(epoch, offset, finished)

    def fence(self, partition: int) -> None:
        """Note that the assignment of a partition has ended."""
        assigned = self._assigned.pop(partition, None)
        if assigned is not None:
            self._ended[partition] = assigned
            self._fenced.add((partition, assigned.epoch))

    def is_fenced(self, place: Place) -> bool:
        """Return True if the assignment has ended."""
        return (place.partition, place.epoch) in self._fenced

    # --- courses --------------------------------------------------------------------------------

    def begin(self, place: Place) -> None:
        """Note that the flow's first function got a record."""
        assigned = self._assigned.get(place.partition)
        if assigned is not None and assigned.epoch == place.epoch and assigned.knew(place.offset):
            raise self.scheduler.fail(
                f"{_name(place)} is processed again, though it was finished before the assignment"
            )
        if place in self.courses:
            raise self.scheduler.fail(f"{_name(place)} entered the flow twice in one assignment")
        self.courses[place] = Course({"record": False})

    def owe(self, place: Place, *names: str) -> None:
        """Note what must happen for a record."""
        course = self.courses[place]
        if course.is_finished:
            raise self.scheduler.fail(f"{_name(place)} owes {names} after it was finished")
        for name in names:
            course.debts.setdefault(name, False)

    def pay(self, place: Place, name: str) -> None:
        """Note that it has happened."""
        course = self.courses[place]
        self.scheduler.note("{} {} is done", place, name)
        if name not in course.debts:
            raise self.scheduler.fail(f"{_name(place)}: {name} happened, and nobody asked for it")
        if course.debts[name]:
            if not course.repeatable[name]:
                raise self.scheduler.fail(f"{_name(place)}: {name} happened twice in one assignment")
            course.repeatable[name] -= 1
        course.debts[name] = True

    def turn(self, place: Place, name: str, *into: str) -> None:
        """Pay a debt and owe others in its place."""
        self.owe(place, *into)
        self.pay(place, name)

    def may_repeat(self, place: Place, name: str) -> None:
        """Note that a target took a payload without saying so."""
        self.courses[place].repeatable[name] += 1

    def change(self, place: Place, key: StateKey, entry: str) -> None:
        """Note a change of state: `entry` was appended to the value of `key`; an empty one removes the value."""
        self.courses[place].changes.append((key, self.next_change(), entry))

    def next_change(self) -> int:
        """Return the number of the next change, in the order of all."""
        self._changes += 1
        return self._changes

    def start(self, step: str, place: Place, key: object) -> None:
        """Note the start of a call or a task: of one key they start in the order of offsets, repetitions included."""
        line = (step, place.life, place.epoch, place.partition, key)
        if place.offset < self._started.get(line, -1):
            raise self.scheduler.fail(f"{_name(place)} has overtaken offset {self._started[line]} in {step}, key {key}")
        self._started[line] = place.offset

    # --- the library's view ---------------------------------------------------------------------

    def credited(self, acks: list[Ack]) -> None:
        """Check acknowledgements: no credit too much, and all of it only when all is done."""
        for ack in acks:
            place = Place.of(self.life, ack.record)
            course = self.courses.get(place)
            if course is None and ack.status is AckStatus.FENCED:
                continue
            if course is None:
                raise self.scheduler.fail(f"{_name(place)} is acknowledged, and no function got it")
            course.credit += ack.credit
            course.fenced |= ack.status is AckStatus.FENCED
            if course.credit > FULL_CREDIT:
                raise self.scheduler.fail(f"{_name(place)} returned {course.credit} of {FULL_CREDIT}")
            if course.credit == FULL_CREDIT and not course.fenced:
                course.is_finished = True
                self.scheduler.note("{} is finished", place)
                if course.open_debts:
                    raise self.scheduler.fail(f"{_name(place)} is finished without {course.open_debts}")

    def check_position(self, partition: int, offset: int, finished: OffsetRanges, what: str) -> None:
        """Check that everything that a commit or a row covers is finished in the present assignment."""
        assigned = self._assigned.get(partition)
        for each in self.logs[partition]:
            if each >= offset and each not in finished:
                continue
            if assigned.knew(each) if assigned is not None else (partition, each) in self.kept:
                continue
            course = self.of(partition, each)
            if course is None or not course.is_finished:
                state = "not read" if course is None else f"owes {course.open_debts}, credit {course.credit}"
                raise self.scheduler.fail(f"{what} covers {partition}:{each}, which is not finished: {state}")

    def of(self, partition: int, offset: int) -> Course | None:
        """Return the processing of a record in the present assignment."""
        assigned = self._assigned.get(partition)
        if assigned is None:
            return None
        return self.courses.get(Place(self.life, assigned.epoch, partition, offset))

    def check_state(
        self, partition: int, offset: int, finished: OffsetRanges, state: dict[StateKey, list[str]], what: str
    ) -> None:
        """Check that a state is the fold of exactly the finished records, each once."""
        found: dict[StateKey, list[tuple[int, str]]] = {}
        assigned = self._assigned.get(partition)
        for each in self.logs[partition]:
            if each < offset or each in finished:
                knew = assigned is None or assigned.knew(each)
                course = self.kept[partition, each] if knew else self.of(partition, each)
                assert course is not None
                for key, number, entry in course.changes:
                    found.setdefault(key, []).append((number, entry))
        for key in sorted(found.keys() | state.keys()):
            entries = [entry for _, entry in sorted(found.get(key, []))]
            removed = max([place + 1 for place, entry in enumerate(entries) if not entry], default=0)
            want, have = entries[removed:], state.get(key, [])
            if want != have:
                raise self.scheduler.fail(f"{what}: state of partition {partition}, {key} is {have}, not {want}")

    def keep(self, partition: int, offset: int, finished: OffsetRanges) -> None:
        """Note that a position is durable: what it covers never happens again."""
        for each in self.logs[partition]:
            if (each < offset or each in finished) and (partition, each) not in self.kept:
                course = self.of(partition, each)
                if course is not None:
                    self.kept[partition, each] = course

    def check_kept(self, partition: int, epoch: int, what: str) -> None:
        """Check that whatever is finished of an assignment is finished for good: it ended in order."""
        for place, course in self.courses.items():
            is_kept = (partition, place.offset) in self.kept
            if place[:3] == (self.life, epoch, partition) and course.is_finished and not is_kept:
                raise self.scheduler.fail(f"{_name(place)} was finished before {what}, and will be repeated")

    def restored(self, partition: int, state: dict[StateKey, list[str]]) -> None:
        """Check the state with which the present assignment begins."""
        assigned = self._assigned[partition]
        self.check_state(partition, assigned.start, assigned.known, state, "the restored state")

    @contextmanager
    def deciding(self, partition: int, *, is_own: bool) -> Iterator[None]:
        """Check a transaction: of the last assignment, which may have ended since it began, or of another member."""
        present = self._assigned.pop(partition, None)
        if is_own and (last := present or self._ended.get(partition)) is not None:
            self._assigned[partition] = last
        try:
            yield
        finally:
            self._assigned.pop(partition, None)
            if present is not None:
                self._assigned[partition] = present

    def epoch_of(self, partition: int) -> int:
        """Return the epoch of the present assignment; 0 if there is none."""
        assigned = self._assigned.get(partition)
        return 0 if assigned is None else assigned.epoch

    def all_kept(self) -> bool:
        """Return True if every record is finished for good."""
        return len(self.kept) == sum([len(offsets) for offsets in self.logs.values()])


def _name(place: Place) -> str:
    return f"{place.partition}:{place.offset} (process {place.life}, epoch {place.epoch})"
