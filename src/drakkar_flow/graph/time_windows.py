"""Windows of event time in a flow: their kinds and their node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from drakkar_flow.graph.arguments import choice, instance, number, refuse
from drakkar_flow.graph.nodes import Node
from drakkar_flow.kernel.windows import Assigner, SessionAssigner, SlidingAssigner

__all__ = ["LatePolicy", "Session", "Sliding", "TimeWindow", "TimeWindows", "Tumbling"]

LatePolicy = Literal["skip", "dlq", "fail"]
"""Destination of late records, as of errors: none (counted), the dead letter topic, or the flow stops."""


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of `size_s` seconds of event time that follow each other, aligned to the epoch.

    >>> Tumbling(60)
    Tumbling(size_s=60)
    """

    size_s: float

    def __post_init__(self) -> None:
        refuse("Tumbling", _seconds("size_s", self.size_s))

    def assigner(self) -> Assigner:
        """Return the rule by which times belong to windows."""
        return SlidingAssigner(_ms(self.size_s), _ms(self.size_s))


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows of `size_s` seconds of event time, one of which begins every `every_s` seconds, aligned to the epoch.

    A record belongs to `size_s / every_s` windows.

    >>> Sliding(3600, every_s=60)
    Sliding(size_s=3600, every_s=60)
    """

    size_s: float
    every_s: float

    def __post_init__(self) -> None:
        wrong = [*_seconds("size_s", self.size_s), *_seconds("every_s", self.every_s)]
        if not wrong and self.every_s > self.size_s:
            wrong = [f"every_s is {self.every_s}; use at most size_s ({self.size_s}): records between would be lost"]
        refuse("Sliding", wrong)

    def assigner(self) -> Assigner:
        """Return the rule by which times belong to windows."""
        return SlidingAssigner(_ms(self.size_s), _ms(self.every_s))


@dataclass(frozen=True, slots=True)
class Session:
    """Windows that end when `gap_s` seconds of event time pass without a record of their key.

    `merge(earlier, later)` returns the value of two sessions that a record between them joins.

    >>> Session(1800, merge=max)
    Session(gap_s=1800, merge=<built-in function max>)
    """

    gap_s: float
    merge: Callable[[Any, Any], Any]

    def __post_init__(self) -> None:
        uncallable: list[str] = (
            [] if callable(self.merge) else [f"merge is {self.merge!r}; pass a function of two values"]
        )
        refuse("Session", _seconds("gap_s", self.gap_s), uncallable)

    def assigner(self) -> Assigner:
        """Return the rule by which times belong to windows."""
        return SessionAssigner(_ms(self.gap_s))


TimeWindows: TypeAlias = Tumbling | Sliding | Session


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow(Node):
    """Adds records to windows of event time by key; its output is the value of each window that is passed."""

    kind: ClassVar[str] = "window"
    windows: TimeWindows
    fn: Callable[..., Any]
    key: Callable[..., Any]
    state: Any
    time: Callable[..., Any] | None = None
    allowed_lateness_s: float = 0
    max_ahead_s: float | None = 86_400
    late: LatePolicy = "skip"
    migrate: Callable[[Any], Any] | None = None
    with_record: bool = False

    def __post_init__(self) -> None:
        Node.__post_init__(self)
        refuse(
            self.kind,
            instance("windows", self.windows, TimeWindows, "Tumbling(60), Sliding(3600, every_s=60) or Session(...)"),
            number("allowed_lateness_s", self.allowed_lateness_s, above=False),
            number("max_ahead_s", self.max_ahead_s, above=False),
            choice("late", self.late, get_args(LatePolicy)),
        )

    @property
    def lateness_ms(self) -> int:
        """The allowed lateness in ms."""
        return round(self.allowed_lateness_s * 1000)

    @staticmethod
    def watermark_of(step_id: str) -> str:
        """Return the id under which the event-time watermark of a step is kept."""
        return f"{step_id}.watermark"


def _seconds(name: str, value: object) -> list[str]:
    if value is None:
        return [f"{name} is None; write a number of seconds, more than 0"]
    return [*number(name, value)]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
