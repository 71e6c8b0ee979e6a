"""Stored dead letters: parsing, selection and grouping. Pure, without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from drakkar_flow.errors import DrakkarFlowError
from drakkar_flow.sinks.dead_letter_messages import (
    CONNECT_PREFIX,
    REPLAY_COUNT,
    REPLAY_ORIGIN,
    TASK_ID_HEADER,
    TRUNCATED_HEADER,
)

__all__ = ["DlqError", "Headers", "Place", "Selection", "StoredDeadLetter", "by_origin", "moment"]

Headers = list[tuple[str, bytes | None]]


class DlqError(DrakkarFlowError):
    """Raised when dead letters can't be read or replayed: the brokers, a topic or the command line is wrong."""


class Place(NamedTuple):
    """Topic, partition and offset of a record.

    >>> str(Place("in", 3, 17))
    'in:3:17'
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True)
class StoredDeadLetter:
    """One stored dead letter: its place, its contents, and the mark of an earlier replay."""

    place: Place
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)
    replayed: bool = False

    def text(self, name: str) -> str:
        """Return the last header of this name as text; empty without one."""
        found = [value or b"" for header, value in self.headers if header == name]
        return found[-1].decode(errors="backslashreplace") if found else ""

    @property
    def origin(self) -> Place | None:
        """Place of the failed record; None if the headers lack it."""
        topic, partition, offset = (self.text(CONNECT_PREFIX + name) for name in ("topic", "partition", "offset"))
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            return None
        return Place(topic, int(partition), int(offset))

    @property
    def stage(self) -> str:
        """Step that failed."""
        return self.text(f"{CONNECT_PREFIX}stage")

    @property
    def reason(self) -> str:
        """Class and message of the error."""
        name = self.text(f"{CONNECT_PREFIX}exception.class.name").rpartition(".")[2]
        message = self.text(f"{CONNECT_PREFIX}exception.message")
        return f"{name}: {message}" if name else message

    @property
    def task_id(self) -> str:
        """Id of the failed task; empty without one."""
        return self.text(TASK_ID_HEADER)

    @property
    def is_record(self) -> bool:
        """True if key, value and headers are those of the record, uncut."""
        return not self.stage.startswith("sink-") and not self.text(TRUNCATED_HEADER)

    @property
    def history(self) -> str:
        """First place of the record and its number of replays; empty if it was never replayed."""
        first = self.text(REPLAY_ORIGIN)
        return f"first {first}, replayed {self.text(REPLAY_COUNT) or '1'} times" if first else ""


@dataclass(frozen=True)
class Selection:
    """Filter for dead letters; all given conditions must match.

    `ids` are places of dead letters or of their records, `partition:offset` or `topic:partition:offset`. `reason` is a
    regular expression, or plain text if it is not a valid one, searched in the reason. Times are in ms since the epoch.
    """

    ids: Sequence[str] = ()
    reason: str = ""
    stage: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    def fits(self, letter: StoredDeadLetter) -> bool:
        """Return True if the dead letter matches."""
        if self.ids and not any(_names(each, letter) for each in self.ids):
            return False
        if self.stage and not letter.stage.startswith(self.stage):
            return False
        if self.since_ms is not None and letter.timestamp_ms < self.since_ms:
            return False
        if self.until_ms is not None and letter.timestamp_ms >= self.until_ms:
            return False
        return not self.reason or _found(self.reason, f"{letter.reason}\n{letter.task_id}")

    def unknown(self, letters: Iterable[StoredDeadLetter]) -> list[str]:
        """Return the ids that match none of the dead letters."""
        known = list(letters)
        return [each for each in self.ids if not any(_names(each, letter) for letter in known)]

    def check(self) -> None:
        """Validate the ids.

        Raises:
            DlqError: an id is not a place.
        """
        for each in self.ids:
            if not re.fullmatch(r"(.+:)?\d+:\d+", each):
                raise DlqError(f"invalid id {each!r}: write partition:offset or topic:partition:offset")


def _names(wanted: str, letter: StoredDeadLetter) -> bool:
    places = [place for place in (letter.place, letter.origin) if place is not None]
    return any(wanted in (str(place), f"{place.partition}:{place.offset}") for place in places)


def _found(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text, re.IGNORECASE) is not None
    except re.error:
        return pattern.lower() in text.lower()


def moment(text: str, now: datetime) -> int:
    """Parse a time to ms since the epoch: ISO 8601 (UTC by default), or a duration before now, such as `90s` or `2h`.

    >>> now = datetime(2026, 1, 2, tzinfo=UTC)
    >>> moment("2026-01-01T12:00", now) == moment("12h", now)
    True

    Raises:
        DlqError: the text is neither.
    """
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return int((now - timedelta(**{unit: int(match[1])})).timestamp() * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise DlqError(f"invalid time {text!r}: write 2026-01-31T12:00, or 90s, 30m, 2h, 1d before now") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def by_origin(letters: Iterable[StoredDeadLetter]) -> dict[Place | tuple[None, Place], list[StoredDeadLetter]]:
    """Group dead letters by their record, in order; one without a record forms its own group."""
    found: dict[Place | tuple[None, Place], list[StoredDeadLetter]] = {}
    for letter in letters:
        found.setdefault(letter.origin or (None, letter.place), []).append(letter)
    return found
