"""Another member of the group with state: it takes partitions that this process lacks, or has lost unknowingly."""

from __future__ import annotations

from collections.abc import Mapping

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.state_messages import Position, position_key, value_key
from drakkar_flow.model.state import StateCodec
from simulation.broker import TOPIC, Brokers
from simulation.facts import Course, Facts
from simulation.state_brokers import StateBrokers, Transaction

__all__ = ["OtherMember"]

_NAME = "other"


class OtherMember:
    """Does what a member does, in one instant: restores, finishes some records in any order, commits, and leaves.

    Before that it sometimes dies in a transaction, or aborts one. `flow` has the codecs of the steps with state.
    """

    def __init__(self, brokers: Brokers, state: StateBrokers, facts: Facts, flow: tuple[str, Mapping[str, StateCodec]]):
        self._brokers = brokers
        self._state = state
        self._facts = facts
        self._flow, self._codecs = flow
        self._chance = facts.scheduler.chance

    def work(self) -> None:
        """Take what can be taken."""
        for number in self._brokers.logs:
            if number not in self._state.owned and self._is_free(number) and self._chance.random() < 0.6:
                fate = self._chance.random()
                if fate < 0.3:
                    self._finish(number, "open" if fate < 0.1 else "abort")
                else:
                    self._finish(number, "commit")

    def _is_free(self, number: int) -> bool:
        """Return True if a restore would not have to wait."""
        return self._state.is_stable(number) and self._state.stable_end(number) == len(self._state.logs[number])

    def _finish(self, number: int, status: str) -> None:
        brokers, chance = self._brokers, self._chance
        position, state = self._state.contents(number)
        start = 0 if position is None else position.offset
        done = OffsetRanges([] if position is None else position.finished)
        courses: dict[int, Course] = {}
        values: dict[tuple[str, str], bytes] = {}
        for offset in [each for each in brokers.logs[number] if each >= start and each not in done]:
            if chance.random() < 0.5:
                continue
            course = courses[offset] = Course(is_finished=True)
            key = (chance.choice(sorted(self._codecs)), f"k{chance.randrange(3)}")
            codec, stored, entry = self._codecs[key[0]], values.get(key, state.get(key)), f"{offset} elsewhere"
            values[key] = codec.encode([*([] if stored is None else codec.decode(stored)), entry], 0)
            course.changes.append((key, self._facts.next_change(), entry))
            done.add(offset, offset + 1)
        reached = start
        for offset in brokers.logs[number]:
            if offset >= start and offset not in done:
                break
            reached = max(reached, offset + 1)
        done.cut(reached)
        written = Position(group="group", flow=self._flow, topic_id="id", offset=reached, finished=list(done))
        messages: list[tuple[bytes, bytes | None]] = [(position_key(TOPIC), written.encode())]
        messages += [(value_key(TOPIC, key), value) for key, value in values.items()]
        self._write(number, messages, (reached, done.encode(reached, 3072)), status, courses)

    def _write(
        self,
        number: int,
        messages: list[tuple[bytes, bytes | None]],
        mark: tuple[int, str],
        status: str,
        courses: dict[int, Course],
    ) -> None:
        name = f"{_NAME} {self._chance.random()}"
        epoch = self._state.begin(name) or 0
        transaction: Transaction = self._state.send(name, epoch, number, messages)
        if self._chance.random() < 0.7 or status == "commit":
            self._state.send_offsets(name, epoch, {number: mark}, -1, "")
        self._facts.scheduler.note("another member: {} {} up to {}", status, number, mark[0])
        if status == "commit":
            self._facts.kept.update({(number, offset): course for offset, course in courses.items()})
        if status != "open":
            self._state.end(transaction, status)
