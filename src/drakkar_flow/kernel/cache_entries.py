"""Cache entries, and last write wins: the rule by which two writes of a key are merged."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CacheEntry", "wins"]


class CacheEntry(NamedTuple):
    """One write of a key. `data` is JSON; None marks a deleted key, a tombstone.

    `scope` is empty for a tombstone of a key whose scope is not known. `expires_ms` is milliseconds since the epoch.
    """

    key: str
    data: bytes | None
    scope: str
    stamp: int
    origin: str
    expires_ms: int | None = None

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key) + (0 if self.data is None else len(self.data))

    def has_expired(self, now_ms: float) -> bool:
        """True from the time of expiry on."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


def wins(one: CacheEntry, other: CacheEntry | None, latest: int) -> bool:
    """True if `one` replaces `other`: the greater stamp wins, of equal ones the smaller origin.

    A stamp beyond `latest` loses to any other: it comes from a wrong clock.

    >>> entry = CacheEntry("k", b"1", "local", 7, "b")
    >>> wins(entry._replace(origin="a"), entry, 9), wins(entry._replace(stamp=6), entry, 9)
    (True, False)
    """
    return other is None or _rank(one, latest) > _rank(other, latest) or _ties(one, other)


def _rank(entry: CacheEntry, latest: int) -> tuple[bool, int]:
    return entry.stamp <= latest, entry.stamp


def _ties(one: CacheEntry, other: CacheEntry) -> bool:
    return one.stamp == other.stamp and one.origin < other.origin
