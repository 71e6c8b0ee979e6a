"""Joins: the steps that pair the records of two topics by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from drakkar_flow.errors import StateError
from drakkar_flow.graph.arguments import refuse
from drakkar_flow.graph.nodes import Decode, Filter, FlatMap, KafkaSource, Map, Node, Stateful
from drakkar_flow.kernel.event_time import event_ms
from drakkar_flow.kernel.joins import JoinRule, Waiting
from drakkar_flow.model.joined import Joined
from drakkar_flow.model.record import Record
from drakkar_flow.model.state import StateCodec, key_of

__all__ = ["Join", "Sides", "joined", "side_problems"]

_DAY_S = 86_400

_ALLOWED = (Decode, Map, Filter, FlatMap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides(Node):
    """Applies the steps of the left flow to records of its topics, those of the right flow to all others."""

    kind: ClassVar[str] = "sides"
    left_topics: tuple[str, ...]
    left: tuple[Node, ...]
    right: tuple[Node, ...]

    def is_left(self, topic: str) -> bool:
        """Return True if records of a topic are on the left side."""
        return any(
            re.match(each, topic) is not None if each.startswith("^") else each == topic for each in self.left_topics
        )

    def named(self, step_id: str) -> tuple[list[tuple[str, Node]], list[tuple[str, Node]]]:
        """Return the steps of both sides with their ids: `sides-left-decode`."""
        return _named(f"{step_id}-left", self.left), _named(f"{step_id}-right", self.right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Stateful):
    """Pairs the records of both sides by key: a step with state across partitions."""

    kind: ClassVar[str] = "join"
    keys: tuple[Callable[..., Any], Callable[..., Any]]
    times: tuple[Callable[..., Any], Callable[..., Any]] | None = None
    types: tuple[Any, Any] = (None, None)


class Pairing:
    """The functions of a join: key, and state with the pairs of a record."""

    def __init__(
        self,
        name: str,
        sides: Sides,
        rule: JoinRule,
        keys: tuple[Callable[..., Any], Callable[..., Any]],
        times: tuple[Callable[..., Any], Callable[..., Any]] | None,
        types: tuple[Any, Any],
    ) -> None:
        self._name = name
        self._rule = rule
        self._keys = keys
        self._times = times
        self._types = types
        self._sides = sides
        self._left: dict[str, bool] = {}
        self._made: tuple[StateCodec, StateCodec] | None = None

    def key(self, payload: Any, record: Record) -> Any:
        """Return the key of a record by the function of its side."""
        return self._keys[0 if self._is_left(record) else 1](payload)

    def pairs(self, waiting: Waiting | None, payload: Any, record: Record) -> tuple[Waiting, list[Joined] | None]:
        """Return the next state of a key, and the pairs that a record makes."""
        is_left = self._is_left(record)
        left, right = self._codecs
        mine, other = (left, right) if is_left else (right, left)
        at_ms = self._time_of(payload, record, is_left=is_left)
        waiting, partners = self._rule.arrive(waiting, at_ms, mine.encode(payload, at_ms), is_left=is_left)
        if not partners:
            return waiting, None
        key = key_of(record.state_key)
        found = [other.decode(partner) for partner in partners]
        return waiting, [Joined(key, payload, each) if is_left else Joined(key, each, payload) for each in found]

    @property
    def _codecs(self) -> tuple[StateCodec, StateCodec]:
        if self._made is None:
            self._made = (StateCodec(self._types[0]), StateCodec(self._types[1]))
        return self._made

    def _is_left(self, record: Record) -> bool:
        known = self._left.get(record.topic)
        if known is None:
            known = self._left[record.topic] = self._sides.is_left(record.topic)
        return known

    def _time_of(self, payload: Any, record: Record, *, is_left: bool) -> int:
        if self._times is not None:
            return event_ms(self._times[0 if is_left else 1](payload), self._name)
        if record.timestamp < 0:
            raise StateError(f"{record.label} has no timestamp; pass time= to {self._name}")
        return record.timestamp


def joined(
    left: tuple[KafkaSource, tuple[Node, ...]],
    right: tuple[KafkaSource, tuple[Node, ...]],
    key: Any,
    within_s: float,
    time: Any,
    lateness_s: float,
    ttl_s: float | None,
    types: tuple[Any, Any] | None,
    name: str,
) -> tuple[KafkaSource, list[Node]]:
    """Return source and nodes of a join of two flows; see `StreamFlow.join`.

    Raises:
        FlowArgumentError: the topics of the sides are missing, or not distinct.
    """
    refuse("join", _topic_problems(left[0], right[0]))
    sides = Sides(left_topics=left[0].topics, left=left[1], right=right[1])
    keys, times = _both(key), None if time is None else _both(time)
    known = types or (_type_of(left[1]), _type_of(right[1]))
    rule = JoinRule(round(within_s * 1000), round(lateness_s * 1000))
    pairing = Pairing(name or Join.kind, sides, rule, keys, times, known)
    join = Join(
        fn=pairing.pairs,
        key=pairing.key,
        state=Waiting,
        ttl_s=within_s + lateness_s + _DAY_S if ttl_s is None else ttl_s,
        with_record=True,
        across=True,
        keys=keys,
        times=times,
        types=known,
        name=name or Join.kind,
    )
    return KafkaSource(*left[0].topics, *right[0].topics), [sides, join, FlatMap(fn=list, name="pairs")]


def _both(function: Any) -> tuple[Any, Any]:
    """Return a function for each side."""
    return function if isinstance(function, tuple) and len(function) == 2 else (function, function)


def _type_of(nodes: Iterable[Node]) -> Any:
    """Return the type of the payloads behind steps; None if it is not known."""
    found: Any = None
    for node in nodes:
        if isinstance(node, Decode) and not node.with_record and (isinstance(node.target, type) or _is_generic(node)):
            found = node.target
        elif not isinstance(node, Filter):
            found = None
    return found


def side_problems(sides: Sides, step_id: str) -> Iterator[tuple[str, str, str]]:
    """Yield step, problem and fix of each step that a side can't have."""
    for named in sides.named(step_id):
        for step, node in named:
            if not isinstance(node, _ALLOWED):
                yield step, f"a side of a join can't have {node.kind}", "put it behind .join(...)"
        if not named or not isinstance(named[0][1], Decode):
            yield step_id, "a side of a join decodes its records", "add .decode(...) to the flow of each side"


def _topic_problems(left: KafkaSource, right: KafkaSource) -> Iterator[str]:
    """Yield what is wrong with the topics of two sides."""
    if not left.topics or not right.topics:
        yield "each side names its topics; write StreamFlow('orders', source=KafkaSource('orders'))"
    for topic in set(left.topics) & set(right.topics):
        yield f"topic {topic!r} is on both sides; a record can be on one side only"


def _is_generic(node: Decode) -> bool:
    return hasattr(node.target, "__origin__")  # dict[str, int]


def _named(prefix: str, nodes: Sequence[Node]) -> list[tuple[str, Node]]:
    stems = [node.stem for node in nodes]
    numbered = [
        stem if stems.index(stem) == index else f"{stem}-{stems[: index + 1].count(stem)}"
        for index, stem in enumerate(stems)
    ]
    return [(f"{prefix}-{stem}", node) for stem, node in zip(numbered, nodes, strict=True)]
