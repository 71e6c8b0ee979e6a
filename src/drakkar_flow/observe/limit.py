"""How often a line may repeat: a pure kernel."""

from __future__ import annotations

__all__ = ["RepeatLimit"]


class RepeatLimit:
    """Admits each key `burst` times per `interval_s` seconds and counts what it turned away.

    Keys must come from a small set; they are kept. Not thread-safe.

    >>> limit = RepeatLimit(burst=1, interval_s=60.0)
    >>> [limit.admit(("retry",), now) for now in (0.0, 1.0, 2.0, 60.0)]
    [0, None, None, 2]
    """

    def __init__(self, burst: int, interval_s: float) -> None:
        self._burst = burst
        self._interval_s = interval_s
        self._keys: dict[tuple[str, ...], tuple[float, int, int]] = {}  # key -> (interval began, admitted, turned away)

    def admit(self, key: tuple[str, ...], now: float) -> int | None:
        """Return None when `key` has had its share, else how often it was turned away since it was last admitted."""
        began, admitted, turned_away = self._keys.get(key, (now, 0, 0))
        if now - began >= self._interval_s:
            began, admitted = now, 0
        if admitted >= self._burst:
            self._keys[key] = (began, admitted, turned_away + 1)
            return None
        self._keys[key] = (began, admitted + 1, 0)
        return turned_away

    def turned_away(self, now: float | None = None) -> dict[tuple[str, ...], int]:
        """Return what was turned away and not told yet, by key, and forget it.

        With `now`, only of keys whose interval is over.
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
