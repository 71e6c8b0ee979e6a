"""The messages of a run, and the expected contents of each target. Pure except for reading the searched files."""

from __future__ import annotations

import json
import random
import sysconfig
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.integration.handler import FILE_ABOVE, HOOK_ABOVE

__all__ = ["DATABASES", "Expected", "Message", "Workload", "refused_by_hook"]

LIBRARY = Path(sysconfig.get_path("stdlib"))
PATTERNS = ("import", "def ", "return", "class ", "raise ValueError", "self.", "lambda", "async def", "yield", "XXX")
DATABASES = ("kafka", "postgres", "mongo", "redis")
"""The targets that get every result."""
FLAKY_SHARE = 0.05
"""Searches whose first run fails."""
MISSING_SHARE = 0.005
"""Searches in a file that does not exist: their tasks become dead letters."""
BROKEN_SHARE = 0.002
"""Messages that are no JSON: they become dead letters."""
_REFUSED_ONE_IN = 40


@dataclass(frozen=True)
class Message:
    """One message: `value` is what Kafka gets; `matches` is None where there is nothing to count."""

    id: int
    value: bytes
    matches: int | None
    flaky: bool = False


@dataclass(frozen=True)
class Expected:
    """Expected contents: ids with their matches by target, ids of dead letters by reason."""

    matches: Mapping[str, Mapping[int, int]]
    dead: Mapping[str, frozenset[int]]


def refused_by_hook(record_id: int) -> bool:
    """True if the hook answers 422 for a result: its delivery then becomes a dead letter."""
    return record_id % _REFUSED_ONE_IN == 7


@dataclass(frozen=True)
class Workload:
    """All messages of a run."""

    messages: tuple[Message, ...]

    @classmethod
    def make(cls, seed: int, count: int, markers: Path) -> Workload:
        """Choose files and patterns at random, count the matches, spread the failures.

        Args:
            seed: the same seed gives the same messages.
            count: how many.
            markers: the directory where searches leave the mark of their first, failing run.
        """
        chance = random.Random(seed)
        files = sorted(path for path in LIBRARY.glob("*.py") if path.is_file())
        counts = {path: _matches(path) for path in files}
        order = list(range(count))
        chance.shuffle(order)
        flaky, missing, broken = _shares(order, (FLAKY_SHARE, MISSING_SHARE, BROKEN_SHARE))
        messages = []
        for number in range(count):
            path, pattern = chance.choice(files), chance.choice(PATTERNS)
            matches: int | None = counts[path][pattern]
            if number in broken:
                messages.append(Message(number, b'{"id": %d, "path": ' % number, None))
                continue
            body = {"id": number, "path": str(path), "pattern": pattern}
            if number in missing:
                body["path"], matches = f"/no/such/file-{number}", None
            if number in flaky:
                body["marker"] = str(markers / str(number))
            messages.append(Message(number, json.dumps(body).encode(), matches, number in flaky))
        return cls(tuple(messages))

    @property
    def expected(self) -> Expected:
        """Expected contents of the targets after a run."""
        found = {message.id: message.matches for message in self.messages if message.matches is not None}
        hook = {each: matches for each, matches in found.items() if matches > HOOK_ABOVE}
        refused = frozenset(filter(refused_by_hook, hook))
        broken = frozenset(each.id for each in self.messages if not _is_json(each.value))
        missing = frozenset(each.id for each in self.messages if each.matches is None) - broken
        return Expected(
            matches={
                **dict.fromkeys(DATABASES, found),
                "http": {each: matches for each, matches in hook.items() if each not in refused},
                "file": {each: matches for each, matches in found.items() if matches > FILE_ABOVE},
            },
            dead={"decode": broken, "task": missing, "http": refused},
        )

    @property
    def flaky(self) -> frozenset[int]:
        """The searches whose first run fails."""
        return frozenset(message.id for message in self.messages if message.flaky)


def _matches(path: Path) -> Counter[str]:
    """The lines of a file that contain each pattern, as `grep -c -F` counts them."""
    lines = path.read_bytes().split(b"\n")
    return Counter({pattern: sum(pattern.encode() in line for line in lines) for pattern in PATTERNS})


def _shares(order: list[int], shares: Iterable[float]) -> list[frozenset[int]]:
    """Cut disjoint shares of at least one number each from the front of `order`."""
    cut, start = [], 0
    for share in shares:
        end = start + max(1, round(len(order) * share))
        cut.append(frozenset(order[start:end]))
        start = end
    return cut


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True
