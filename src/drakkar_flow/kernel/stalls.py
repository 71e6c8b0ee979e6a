"""Stall detection. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Looked", "StallDetector"]

K = TypeVar("K", bound=Hashable)


class Looked(NamedTuple, Generic[K]):
    """Result of a look: keys whose stall begins or ends now, each with its duration in seconds."""

    begun: dict[K, float]
    ended: dict[K, float]


class StallDetector(Generic[K]):
    """Watches signs of progress: a key whose sign stays the same for `after_s` seconds is stalled, once.

    Pass every key that has work and its sign, which changes with every progress. A missing key has no
    work, which ends its stall too. Between two looks at most `max_step_s` seconds count, so that
    after a suspension of the process not everything counts as stalled.

    >>> detector = StallDetector[str](after_s=10.0, max_step_s=5.0)
    >>> for now, sign in ((0.0, "a"), (5.0, "a"), (10.0, "a"), (15.0, "a"), (16.0, "b")):
    ...     print(detector.look({"in:0": sign}, now))
    Looked(begun={}, ended={})
    Looked(begun={}, ended={})
    Looked(begun={'in:0': 10.0}, ended={})
    Looked(begun={}, ended={})
    Looked(begun={}, ended={'in:0': 16.0})
    """

    def __init__(self, after_s: float, max_step_s: float) -> None:
        self._after_s = after_s
        self._max_step_s = max_step_s
        self._looked_at: float | None = None
        self._clock = 0.0
        self._since: dict[K, tuple[Hashable, float]] = {}
        self._stalled: set[K] = set()

    @property
    def stalled(self) -> frozenset[K]:
        """The keys that are stalled now."""
        return frozenset(self._stalled)

    def age_s(self, key: K) -> float:
        """Seconds since the sign of a key last changed, as of the last look."""
        return self._clock - self._since[key][1] if key in self._since else 0.0

    def look(self, signs: Mapping[K, Hashable], now: float) -> Looked[K]:
        """Compare the signs with those of the last look; `now` is monotonic seconds."""
        if self._looked_at is not None:
            self._clock += min(max(0.0, now - self._looked_at), self._max_step_s)
        self._looked_at = now
        before, self._since = self._since, {}
        for key, sign in signs.items():
            was = before.get(key)
            self._since[key] = was if was is not None and was[0] == sign else (sign, self._clock)
        ended = {key: self._clock - before[key][1] for key in self._stalled if self._since.get(key) is not before[key]}
        self._stalled -= ended.keys()
        lasting = {key: self.age_s(key) for key in signs if key not in self._stalled}
        begun = {key: age_s for key, age_s in lasting.items() if age_s >= self._after_s}
        self._stalled |= begun.keys()
        return Looked(begun, ended)
