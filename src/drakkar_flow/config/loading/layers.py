"""Layers of the configuration: trees of values that know their origin, and how they are merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from drakkar_flow.config.schema import Path, dotted
from drakkar_flow.errors import Problem

__all__ = [
    "MAX_INT_BITS",
    "BeyondBudgetError",
    "Budget",
    "Filled",
    "Items",
    "Layer",
    "close_lists",
    "from_plain",
    "merge",
]

_MAX_DEPTH: Final = 60
_MAX_VALUES: Final = 100_000
MAX_INT_BITS: Final = 64


class Items(dict[int, Any]):
    """Items of a list by their index, to be laid over the list of a lower layer."""


class Filled(NamedTuple):
    """A variable that was filled in for `${name}` at a path."""

    path: Path
    name: str
    value: str


@dataclass(slots=True)
class Layer:
    """Nested values with their origins."""

    tree: dict[str, Any] = field(default_factory=dict)
    """The values."""
    origins: dict[Path, str] = field(default_factory=dict)
    """Places of values that have a separate place."""
    named: set[Path] = field(default_factory=set)
    """Paths whose origin says it all, like an environment variable's name; a problem there does not repeat the path."""
    broken: set[Path] = field(default_factory=set)
    """Paths whose values a problem was already found with."""
    problems: list[Problem] = field(default_factory=list)
    """Problems found before validation against the schema."""
    notices: list[Problem] = field(default_factory=list)
    """Notices: moved keys."""
    filled: list[Filled] = field(default_factory=list)
    """The variables that were filled in for `${NAME}`; a key that moved stands at its former path."""

    def where(self, path: Path) -> str:
        """Place of the value at a path, or of the nearest section around it."""
        if path in self.named:
            return self.origins[path]
        return f"{self.origin(path)} {dotted(path)}".strip() or "configuration"

    def origin(self, path: Path) -> str:
        """The origin of the value at a path, or of the nearest thing around it; empty when it is a default."""
        return next((self.origins[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.origins), "")

    def blame(self, path: Path, what: str, remedy: str = "") -> None:
        """Notes a problem with the value at a path."""
        self.broken.add(path)
        self.problems.append(Problem(self.where(path), what, remedy))

    def is_broken(self, path: Path) -> bool:
        """True if a problem was already found at a path or around it."""
        return any(path[:n] in self.broken for n in range(len(path) + 1))


class Budget:
    """Bounds on how deep values nest and how many there are, against aliases that hold or multiply themselves."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def spend(self, path: Path) -> str:
        """Counts one value; returns what is wrong, or nothing."""
        self._left -= 1
        if len(path) > _MAX_DEPTH:
            return f"values nest deeper than {_MAX_DEPTH} levels"
        return "" if self._left >= 0 else f"more than {_MAX_VALUES} values"


class BeyondBudgetError(Exception):
    """Raised to leave a structure that is beyond the budget."""


def merge(layers: list[Layer]) -> Layer:
    """One layer of several, later ones winning; mappings merge, and so do items that are given by their index.

    Everything else is replaced.
    """
    result = Layer()
    for layer in layers:
        if () in layer.origins:
            result.origins.setdefault((), layer.origins[()])
        _merge_into(result, result.tree, layer, layer.tree, ())
        result.broken |= layer.broken
        result.problems += layer.problems
        result.notices += layer.notices
        result.filled += layer.filled
    return result


def _merge_into(result: Layer, old: dict[Any, Any], layer: Layer, new: Mapping[Any, Any], path: Path) -> None:
    for key, value in new.items():
        here = (*path, key)
        if isinstance(value, Items) and isinstance(old.get(key), list):
            old[key] = Items(enumerate(old[key]))
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _merge_into(result, old[key], layer, value, here)
        else:
            old[key] = value
            _take_origins(result, layer, here)


def _take_origins(result: Layer, layer: Layer, path: Path) -> None:
    n = len(path)
    for stale in [p for p in result.origins if p[:n] == path]:
        del result.origins[stale]
        result.named.discard(stale)
    result.origins |= {p: origin for p, origin in layer.origins.items() if p[:n] == path}
    result.named |= {p for p in layer.named if p[:n] == path}
    if path not in result.origins:
        result.origins[path] = layer.origin(path)


def close_lists(layer: Layer) -> None:
    """Make lists of the items that are given by their index; an index with none before it is a problem."""
    layer.tree = _closed(layer.tree, (), layer)


def _closed(value: Any, path: Path, layer: Layer) -> Any:
    if isinstance(value, list):
        return [_closed(inner, (*path, i), layer) for i, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    closed = {key: _closed(inner, (*path, key), layer) for key, inner in value.items()}
    if not isinstance(value, Items):
        return closed
    for position, index in enumerate(sorted(closed)):
        if position != index:
            layer.blame((*path, index), f"there is no item {position}", "count from 0, and leave none out")
            break
    return [closed[index] for index in sorted(closed)]


def from_plain(data: object, source: str) -> Layer:
    """A layer of plain data (dicts, lists, values), checked for being plain."""
    layer = Layer(origins={(): source})
    if not isinstance(data, Mapping):
        layer.blame((), f"must be a mapping of sections, not {type(data).__name__}")
        return layer
    try:
        layer.tree = _copy(data, (), layer, Budget())
    except BeyondBudgetError as problem:
        layer.blame((), str(problem))
    return layer


def _copy(value: Any, path: Path, layer: Layer, budget: Budget) -> Any:
    if wrong := budget.spend(path):
        raise BeyondBudgetError(wrong)
    if isinstance(value, Items):
        return Items({i: _copy(v, (*path, i), layer, budget) for i, v in value.items()})
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                layer.blame(path, f"a key must be text, not {type(key).__name__}")
        return {key: _copy(v, (*path, key), layer, budget) for key, v in value.items() if isinstance(key, str)}
    if isinstance(value, list | tuple):
        return [_copy(v, (*path, i), layer, budget) for i, v in enumerate(value)]
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        layer.blame(path, f"the number has more than {MAX_INT_BITS} bits")
    return value
