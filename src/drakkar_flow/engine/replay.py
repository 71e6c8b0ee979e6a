"""Replay: sends the records of dead letters to their source topics, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException, Producer

from drakkar_flow.engine.dead_letter_store import DeadLetterStore, RecordReader, one_line, quiet
from drakkar_flow.engine.dead_letters import DlqError, Headers, Place, Selection, StoredDeadLetter, by_origin
from drakkar_flow.sinks.dead_letter_messages import (
    REPLAY_COUNT,
    REPLAY_LETTER,
    REPLAY_ORIGIN,
    is_dead_letter_header,
)

__all__ = ["Replay", "ReplayOptions", "Summary"]

_PORTION = 500
_FLUSH_S = 60.0
_REPORT_S = 1.0


@dataclass(frozen=True)
class ReplayOptions:
    """Selection and bounds of a replay: at most `limit` records (0: all), at most `rate` records/s (0: no limit).

    `again` includes dead letters that were replayed before; `dry_run` sends and marks nothing.
    """

    selection: Selection = field(default_factory=Selection)
    limit: int = 0
    rate: float = 0.0
    again: bool = False
    dry_run: bool = False


@dataclass
class Summary:
    """Result of a replay, in records; `failed` has a place and a reason per failed record."""

    letters: int = 0
    selected: int = 0
    sent: int = 0
    before: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """One record to send, and its dead letters."""

    origin: Place
    letters: Sequence[StoredDeadLetter]

    @property
    def letter(self) -> StoredDeadLetter:
        """Dead letter to send: one with the whole record, if there is one."""
        return next((letter for letter in self.letters if letter.is_record), self.letters[0])


class Replay:
    """Replays dead letters of one topic; a dry run calls `show` per record, a replay `progress` once a second."""

    def __init__(
        self,
        store: DeadLetterStore,
        properties: Mapping[str, Any],
        options: ReplayOptions,
        show: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        self._store = store
        self._options = options
        self._show = show
        self._progress = progress
        self._summary = Summary()
        self._records = RecordReader(properties)
        self._producer = Producer(quiet({**properties, "enable.idempotence": True}))
        self._reported_at = time.monotonic()

    def run(self) -> Summary:
        """Replay the selected dead letters in portions; each portion is acknowledged, then marked as replayed.

        Raises:
            DlqError: the dead letters can't be read or can't be marked as replayed.
        """
        try:
            jobs = self._jobs()
            topics = self._records.topics()
            size = _PORTION if not self._options.rate else max(1, min(_PORTION, int(self._options.rate)))
            started = time.monotonic()
            for start in range(0, len(jobs), size):
                self._portion(jobs[start : start + size], topics)
                self._keep_rate(started, min(start + size, len(jobs)), len(jobs))
        finally:
            self._records.close()
        return self._summary

    def _jobs(self) -> list[_Job]:
        options, summary = self._options, self._summary
        letters = self._store.read()
        summary.letters = len(letters)
        summary.failed += [f"{each}: no such dead letter" for each in options.selection.unknown(letters)]
        jobs: list[_Job] = []
        for origin, about in by_origin(letters).items():
            if not any(map(options.selection.fits, about)):
                continue
            if options.limit and summary.selected >= options.limit:
                break
            replayed = not options.again and any(letter.replayed for letter in about)
            if replayed:
                summary.before += 1
                continue
            summary.selected += 1
            if isinstance(origin, Place):
                jobs.append(_Job(origin, about))
            else:
                summary.failed.append(f"dead letter {about[0].place}: its headers do not name a record")
        return jobs

    def _portion(self, jobs: Sequence[_Job], topics: Mapping[str, Any]) -> None:
        wrong: dict[Place, str] = {}
        prepared = []
        for job in jobs:
            try:
                prepared.append((job, self._message(job, topics)))
            except DlqError as exc:
                wrong[job.origin] = str(exc)
        if self._options.dry_run:
            for job, _ in prepared:
                self._show(f"would replay {job.origin}: {job.letter.stage}: {' '.join(job.letter.reason.split())}")
        else:
            wrong |= self._send(prepared)
            self._store.mark(letter for job, _ in prepared if job.origin not in wrong for letter in job.letters)
        self._summary.sent += len(jobs) - len(wrong)
        self._summary.failed += [f"{place}: {why}" for place, why in wrong.items()]

    def _message(self, job: _Job, topics: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `produce` for a record: its partition, key, value and headers, with its first place.

        Raises:
            DlqError: the record is no longer in its topic.
        """
        letter, origin = job.letter, job.origin
        if origin.topic not in topics:
            raise DlqError(f"topic {origin.topic!r} no longer exists")
        key, value, headers = letter.key, letter.value, letter.headers
        if not letter.is_record:
            record: Any = self._records.read(origin)
            if record is None:
                raise DlqError("neither the dead letter nor the source topic has the whole record")
            key, value, headers = record.key(), record.value(), list(record.headers() or [])
        message = {"topic": origin.topic, "key": key, "value": value, "headers": _headers(headers, letter, origin)}
        return {**message, "partition": origin.partition} if origin.partition in topics[origin.topic] else message

    def _send(self, prepared: Sequence[tuple[_Job, dict[str, Any]]]) -> dict[Place, str]:
        wrong: dict[Place, str] = {}
        open_: set[Place] = set()
        for job, message in prepared:

            def ended(error: Any, _message: Any, place: Place = job.origin) -> None:
                open_.discard(place)
                if error is not None:
                    wrong[place] = error.str()

            open_.add(job.origin)
            try:
                self._producer.produce(**message, on_delivery=ended)
            except (KafkaException, BufferError, TypeError, ValueError) as exc:
                open_.discard(job.origin)
                wrong[job.origin] = one_line(exc)
        self._producer.flush(_FLUSH_S)
        return wrong | dict.fromkeys(open_, "no broker acknowledged it in time; it may have been sent")

    def _keep_rate(self, started: float, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_S:
            self._reported_at = now
            self._progress(f"{done} of {total} records")
        if self._options.rate and not self._options.dry_run and done < total:
            time.sleep(max(0.0, started + done / self._options.rate - now))


def _headers(headers: Headers, letter: StoredDeadLetter, origin: Place) -> Headers:
    """Return the record's headers with its first place and its number of replays."""
    own = [(name, value) for name, value in headers if not is_dead_letter_header(name)]
    before = {name: value for name, value in own if name in (REPLAY_ORIGIN, REPLAY_COUNT)}
    own = [(name, value) for name, value in own if name not in (REPLAY_ORIGIN, REPLAY_COUNT, REPLAY_LETTER)]
    count = before.get(REPLAY_COUNT) or b"0"
    return [
        *own,
        (REPLAY_ORIGIN, before.get(REPLAY_ORIGIN) or str(origin).encode()),
        (REPLAY_COUNT, b"%d" % (int(count) + 1 if count.isdigit() else 1)),
        (REPLAY_LETTER, str(letter.place).encode()),
    ]
