"""Rate limit for repeated log lines. Pure."""

from __future__ import annotations

from collections import Counter

__all__ = ["OTHERS", "RepeatLimit"]

Key = tuple[str, ...]

OTHERS = "other causes"
"""Last part of the key that is shared by all keys beyond `max_keys`."""


class RepeatLimit:
    """Admits each key `burst` times per `interval_s` seconds and counts the refused ones.

    The first of each key is always admitted. Of keys with the same first part at most `max_keys` are kept; further ones
    share one key. Not thread-safe.

    >>> limit = RepeatLimit(burst=1, interval_s=60.0)
    >>> [limit.admit(("retry", "refused"), now) for now in (0.0, 1.0, 2.0, 60.0)]
    [0, None, None, 2]
    """

    def __init__(self, burst: int, interval_s: float, max_keys: int = 50) -> None:
        self._burst = burst
        self._interval_s = interval_s
        self._max_keys = max_keys
        self._keys: dict[Key, tuple[float, int, int]] = {}  # key -> (start of the interval, admitted, refused)
        self._sizes: Counter[str] = Counter()
        self._looked_at: dict[str, float] = {}  # time of the last search for expired keys, by first part

    def admit(self, key: Key, now: float) -> int | None:
        """Return None to refuse `key`, else the number of refusals since it was last admitted."""
        if key not in self._keys:
            key = self._place_for(key, now)
        began, admitted, turned_away = self._keys[key]
        if now - began >= self._interval_s:
            began, admitted = now, 0
        if admitted >= self._burst:
            self._keys[key] = (began, admitted, turned_away + 1)
            return None
        self._keys[key] = (began, admitted + 1, 0)
        return turned_away

    def turned_away(self, now: float | None = None) -> dict[Key, int]:
        """Return the refusals by key that were not reported yet, and reset them.

        With `now`, only of keys with an expired interval.
        """
        waiting = {
            key: lost
            for key, (began, _, lost) in self._keys.items()
            if lost and (now is None or now - began >= self._interval_s)
        }
        for key in waiting:
            began, admitted, _ = self._keys[key]
            self._keys[key] = (began, admitted, 0)
        return waiting

    def _place_for(self, key: Key, now: float) -> Key:
        """Make room for a new key; return the key that counts it."""
        group = key[0]
        due = now - self._looked_at.get(group, -self._interval_s) >= self._interval_s / 10
        if self._sizes[group] >= self._max_keys and due:
            self._looked_at[group] = now
            for old in [old for old, state in self._keys.items() if old[0] == group and self._is_over(state, now)]:
                del self._keys[old]
                self._sizes[group] -= 1
        if self._sizes[group] >= self._max_keys:
            key = (group, OTHERS)
            if key in self._keys:
                return key
        self._keys[key] = (now, 0, 0)
        self._sizes[group] += 1
        return key

    def _is_over(self, state: tuple[float, int, int], now: float) -> bool:
        began, _, turned_away = state
        return not turned_away and now - began >= self._interval_s
