"""What each flow under test must have delivered and stored, computed from its topic alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.state import StateCodec, key_of, key_text, window_key_text

__all__ = ["ACROSS", "COUNTING", "FLUSHING", "HANDLING", "MINUTES", "Sent", "Truth", "numbers_of", "pipeline_of"]

KEYS = 37
_PIPELINES = Path(__file__).parent / "pipelines"
_NUMBERS = StateCodec(int)
_LATENESS_MS, _SIZE_MS, _EVERY_MS = 5_000, 10_000, 5_000

State = Mapping[StateKey, bytes]


class Sent(NamedTuple):
    """Key and value of a record in the source."""

    key: bytes
    value: bytes


Sents = Mapping[int, Sent]
"""Records of a partition by offset, in order."""


class Truth(Protocol):
    """The rules of one flow."""

    name: str
    """Of the flow."""
    repeats_alike: bool
    """True if a record that is read again after a crash has the same output."""

    def record(self, number: int) -> tuple[str, str]:
        """Key and value of the record with a number."""

    def delivered(self, partition: int, finished: Sents, state: State) -> set[bytes]:
        """The outputs that finished records have brought, each in a text that no other has."""

    def check(self, finished: Sents, state: State) -> None:
        """Check that state is that of the finished records."""


def pipeline_of(truth: Truth) -> str:
    """The flow's file, as `Scene.start` takes it."""
    return str(_PIPELINES / truth.name)


class Counting:
    """Records by key; each number comes out."""

    name = "counting"
    repeats_alike = True

    def record(self, number: int) -> tuple[str, str]:
        """Key and number."""
        return str(number % KEYS), str(number)

    def delivered(self, partition: int, finished: Sents, state: State) -> set[bytes]:
        """The numbers."""
        return {sent.value for sent in finished.values()}

    def check(self, finished: Sents, state: State) -> None:
        """One count per key."""
        assert numbers_of(state, "stateful-count") == Counter(sent.key for sent in finished.values())


class Across(Counting):
    """Records by a key that all partitions have; each number comes out."""

    name = "counting_across"

    def record(self, number: int) -> tuple[str, str]:
        """The partition is not that of the number's key in the state."""
        return f"spread {number}", str(number)

    def check(self, finished: Sents, state: State) -> None:
        """No partition has a count."""
        assert not state

    def counts(self, finished: Iterable[Sents]) -> Counter[bytes | str | int]:
        """One count per key, of all partitions together."""
        return Counter(int(sent.value) % KEYS for sents in finished for sent in sents.values())


class Handling(Counting):
    """Records, their tasks and the tasks of windows by key; each number comes out."""

    name = "handling"

    def check(self, finished: Sents, state: State) -> None:
        """Three counts per key."""
        expected = Counter(
            f"{prefix}{sent.key.decode()}" for sent in finished.values() for prefix in ("", "task ", "window ")
        )
        assert numbers_of(state, "handler") == expected


class Flushing:
    """Each id once, though some are written twice; reports without a gap."""

    name = "flushing"
    repeats_alike = False  # a report that is taken back may come with another total

    def record(self, number: int) -> tuple[str, str]:
        """Each fifth record repeats the id of one shortly before."""
        unique = number - 3 if number % 5 == 4 else number
        user = f"u{unique % KEYS}"
        return user, f"{user} {unique} {number}"

    def delivered(self, partition: int, finished: Sents, state: State) -> set[bytes]:
        """The ids, and the reports that the state says were made."""
        texts = {text for _, text in _first(finished)}
        for user, tally in _tallies(state).items():
            texts |= {
                f"{user} {start}..{end}".encode() for start, end in zip((0, *tally.ends), tally.ends, strict=False)
            }
        return texts

    def check(self, finished: Sents, state: State) -> None:
        """Ids, totals, and a timer for each user who waits for a report."""
        ids = _first(finished)
        assert {key.encode() for step, key in state if step == "stateful-dedupe"} == {text for _, text in ids}
        tallies = _tallies(state)
        assert {user: each.total for user, each in tallies.items()} == Counter(user.decode() for user, _ in ids)
        for tally in tallies.values():
            ends = (0, *tally.ends, tally.total)
            assert list(ends) == sorted(ends)
            assert tally.waits or tally.total == tally.ends[-1]
        waiting = {user for user, tally in tallies.items() if tally.waits}
        assert {key for step, key in state if step == "stateful-tally.timer"} == waiting


class Minutes:
    """Windows of event time: each result has each of its records once, and so has each open window."""

    name = "minutes"
    repeats_alike = True

    def record(self, number: int) -> tuple[str, str]:
        """The time goes on by 50 ms per record, and each is up to 4 s late."""
        user = f"u{number % KEYS}"
        return user, f"{user} {100_000 + 50 * number - number * 7919 % 4_000}"

    def delivered(self, partition: int, finished: Sents, state: State) -> set[bytes]:
        """The results of the windows that were passed."""
        counts, watermark_ms = _windows(finished.values())
        return {
            f"{partition} {user} {start_ms / 1000:g} {count}".encode()
            for (user, start_ms), count in counts.items()
            if start_ms + _SIZE_MS <= watermark_ms
        }

    def check(self, finished: Sents, state: State) -> None:
        """The windows that are open."""
        counts, watermark_ms = _windows(finished.values())
        expected = {
            window_key_text(key_text(user), start_ms, start_ms + _SIZE_MS): count
            for (user, start_ms), count in counts.items()
            if start_ms + _SIZE_MS > watermark_ms
        }
        assert {
            key: _NUMBERS.decode(value) for (step, key), value in state.items() if step == "window-minutes"
        } == expected


COUNTING, ACROSS, HANDLING, FLUSHING, MINUTES = Counting(), Across(), Handling(), Flushing(), Minutes()


class _Tally(msgspec.Struct):
    total: int
    ends: tuple[int, ...]
    waits: bool


_TALLIES = StateCodec(_Tally)


def numbers_of(state: State, step: str) -> Counter[bytes | str | int]:
    """The numbers of a step by key."""
    return Counter({key_of(key): _NUMBERS.decode(value) for (owner, key), value in state.items() if owner == step})


def _tallies(state: State) -> dict[str, _Tally]:
    return {key: _TALLIES.decode(value) for (step, key), value in state.items() if step == "stateful-tally"}


def _first(sents: Sents) -> list[tuple[bytes, bytes]]:
    """Users and ids, without the records that repeat one."""
    split = (sent.value.split() for sent in sents.values())
    return [(user, text) for user, text, number in split if text == number]


def _windows(sents: Iterable[Sent]) -> tuple[Counter[tuple[str, int]], int]:
    """Records by user and start of their windows, and the event-time watermark in ms."""
    counts: Counter[tuple[str, int]] = Counter()
    watermark_ms = -_SIZE_MS
    for sent in sents:
        user, text = sent.value.decode().split()
        at_ms = int(text)
        watermark_ms = max(watermark_ms, at_ms - _LATENESS_MS)
        last = at_ms // _EVERY_MS * _EVERY_MS
        counts.update((user, start) for start in range(last, last - _SIZE_MS, -_EVERY_MS))
    return counts, watermark_ms
