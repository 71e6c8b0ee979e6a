"""The books of a run: the contents of each target against the expected ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from examples.integration.feed import read_all
from examples.integration.targets import Targets

__all__ = ["Account", "dead_letters", "results"]

Entry = tuple[int, int]
"""The id of a record and its matches."""


@dataclass(frozen=True)
class Account:
    """One target: expected and written entries, and their differences.

    >>> Account.of("redis", {1: 5, 2: 7}, [(1, 5), (1, 5), (3, 9)])
    Account(target='redis', expected=2, written=3, doubled=1, missing=1, unexpected=1, wrong=0)
    """

    target: str
    expected: int
    written: int
    doubled: int
    missing: int
    unexpected: int
    wrong: int

    @classmethod
    def of(cls, target: str, expected: Mapping[int, int], seen: Iterable[Entry]) -> Account:
        """Compare the entries of a target with the expected matches by id."""
        entries = list(seen)
        counts = Counter(record_id for record_id, _ in entries)
        return cls(
            target,
            expected=len(expected),
            written=len(entries),
            doubled=sum(count - 1 for count in counts.values()),
            missing=len(expected.keys() - counts.keys()),
            unexpected=len(counts.keys() - expected.keys()),
            wrong=sum(expected.get(record_id, matches) != matches for record_id, matches in entries),
        )

    @property
    def balanced(self) -> bool:
        """True if no entry is missing, unexpected or wrong, and the sum is right."""
        return not (self.missing or self.unexpected or self.wrong) and self.written == self.expected + self.doubled


async def results(targets: Targets) -> dict[str, list[Entry]]:
    """Everything that the targets of results hold."""
    return {
        "kafka": [_entry(json.loads(message.value() or b"")) for message in read_all(targets.brokers, "found")],
        "postgres": await _postgres(targets.environment["POSTGRES_DSN"]),
        "mongo": await _mongo(targets.environment["MONGO_URI"]),
        "redis": await _redis(targets.environment["REDIS_URL"]),
        "http": list(targets.hook.accepted),
        "file": _file(targets.output / "found.jsonl"),
    }


def dead_letters(brokers: str, topic: str, places: Mapping[tuple[int, int], int]) -> dict[str, list[Entry]]:
    """The ids of dead letters by reason, `decode`, `task` or `http`, each with 0 matches.

    Args:
        brokers: the bootstrap servers.
        topic: the dead letter topic.
        places: the id of each record by partition and offset.
    """
    letters: dict[str, list[Entry]] = {"decode": [], "task": [], "http": []}
    for message in read_all(brokers, topic):
        headers: dict[str, Any] = dict(message.headers() or [])
        prefix = "__connect.errors."
        record_id = places[int(headers[prefix + "partition"]), int(headers[prefix + "offset"])]
        stage = headers[prefix + "stage"].decode()
        reason = "http" if stage.startswith("sink-http") else "task" if "drakkar.task" in headers else stage
        letters.setdefault(reason, []).append((record_id, 0))
    return letters


def _entry(found: Mapping[str, Any]) -> Entry:
    return found["record_id"], found["matches"]


async def _postgres(address: str) -> list[Entry]:
    connection = await asyncpg.connect(address)
    try:
        return [_entry(row) for row in await connection.fetch("SELECT record_id, matches FROM found")]
    finally:
        await connection.close()


async def _mongo(address: str) -> list[Entry]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(address)
    try:
        return [_entry(document) async for document in client["drakkar"]["found"].find()]
    finally:
        await client.close()


async def _redis(address: str) -> list[Entry]:
    client = Redis.from_url(address)
    try:
        values = await cast("Awaitable[list[bytes]]", client.lrange("found", 0, -1))
        return [_entry(json.loads(value)) for value in values]
    finally:
        await client.aclose()


def _file(path: Path) -> list[Entry]:
    """The whole lines; a killed worker may leave a half line, which is part of no result."""
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            entries.append(_entry(json.loads(line)))
        except ValueError:
            continue
    return entries
