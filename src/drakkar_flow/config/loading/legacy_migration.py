"""Migration of a layer's legacy keys to their present places; notices and problems say what changed."""

from __future__ import annotations

from typing import Any, Final

from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.loading.legacy_keys import LegacyRule, Moved, Refused, legacy_children, legacy_rule
from drakkar_flow.config.schema import Path, dotted, similar, type_at
from drakkar_flow.errors import Problem

__all__ = ["migrate_legacy_keys"]

_NOTHING: Final[tuple[object, ...]] = (None, {}, [], "")


def migrate_legacy_keys(layer: Layer) -> Layer:
    """The layer with every legacy key moved, dropped or refused, as its `notices` and `problems` report."""
    _Migration(layer).visit(layer.tree, ())
    return layer


class _Migration:
    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def visit(self, tree: dict[str, Any], path: Path) -> None:
        """Takes the legacy keys out of a section."""
        legacy_section = bool(path) and type_at(path) is None
        for key in list(tree):
            here = (*path, key)
            rule = legacy_rule(here)
            if rule is not None:
                self._apply(here, tree.pop(key), rule)
            elif legacy_children(here) and isinstance(tree[key], dict):
                self.visit(tree[key], here)
                if type_at(here) is None:
                    del tree[key]
            elif legacy_section or (legacy_children(here) and type_at(here) is None):
                self._refuse_odd(here, tree.pop(key))

    def _refuse_odd(self, path: Path, value: Any) -> None:
        if not legacy_children(path):
            siblings = legacy_children(path[:-1])
            near = similar(str(path[-1]).lower(), siblings) or siblings
            self._layer.blame(path, "unknown key", f"did you mean {' or '.join(map(repr, near[:2]))}?")
        elif value is not None:
            self._layer.blame(path, "must be a section of keys and values")

    def _apply(self, path: Path, value: Any, rule: LegacyRule) -> None:
        if isinstance(rule, Moved):
            self._move(path, value, rule)
        elif isinstance(rule, Refused) and rule.matters(value):
            self._layer.blame(path, f"unsupported: {rule.why}", rule.remedy)
        elif value not in _NOTHING:
            self._layer.notices.append(Problem(self._layer.where(path), f"has no effect: {rule.why}", "remove it"))

    def _move(self, path: Path, value: Any, rule: Moved) -> None:
        names = [key for key, part in zip(path, _pattern(path), strict=True) if part == "*"]
        to = tuple(names.pop(0) if part == "*" else part for part in rule.to.split("."))
        how = f" ({rule.how})" if rule.how else ""
        layer, converted = self._layer, rule.convert(value)
        given, missing = _value_at(layer.tree, to)
        if not missing and given != converted:
            what = f"is now {dotted(to)}{how}, which is given too, with another value, at {layer.where(to)}"
            layer.blame(path, what, f"keep {dotted(to)} only")
            return
        layer.notices.append(
            Problem(layer.where(path), f"is now {dotted(to)}{how}; its value counts there", "rename it")
        )
        if missing and _put(layer.tree, to, converted):
            _take_origins(layer, path, to)


def _pattern(path: Path) -> Path:
    """The path as it stands in the table."""
    pattern: Path = ()
    for n, key in enumerate(path):
        pattern = (*pattern, key if key in legacy_children(path[:n]) else "*")
    return pattern


def _value_at(tree: Any, path: Path) -> tuple[Any, bool]:
    """The value at a path, and whether there is none."""
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return None, True
        tree = tree[key]
    return tree, False


def _put(tree: dict[str, Any], path: Path, value: Any) -> bool:
    """Puts the value at a path; False where something that is no section is in the way."""
    inner: Any = tree
    for key in path[:-1]:
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            return False
    inner[path[-1]] = value
    return True


def _take_origins(layer: Layer, old: Path, new: Path) -> None:
    n = len(old)
    for path in [path for path in layer.origins if path[:n] == old]:
        layer.origins[new + path[n:]] = layer.origins[path]
        if path in layer.named:
            layer.named.add(new + path[n:])
    for end in range(1, len(new) + 1):  # a section that only moved keys make begins where the first of them stood
        layer.origins.setdefault(new[:end], layer.origin(old))
