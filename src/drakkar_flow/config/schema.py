"""Walking the schema by path: what belongs where."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Final, Union, get_args, get_origin

from drakkar_flow.config.base import Section
from drakkar_flow.config.root import DrakkarConfig

__all__ = [
    "ROOT",
    "Path",
    "Type",
    "child",
    "dotted",
    "fields_at",
    "is_container",
    "is_section",
    "places_of",
    "sections",
    "type_at",
]

Path = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""
Type = Any
"""A field's annotation; None where the schema says nothing."""
ROOT: Final = DrakkarConfig


def dotted(path: Path) -> str:
    """The path as a user writes it.

    >>> dotted(("kafka", "source_topics", 0))
    'kafka.source_topics[0]'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def is_section(kind: Type) -> bool:
    """Whether the type is a section of the configuration."""
    return isinstance(kind, type) and issubclass(kind, Section)


def is_container(kind: Type) -> bool:
    """Whether values of the type hold others: a section, a mapping or a list."""
    return is_section(kind) or _generic(kind) in (dict, list)


def child(kind: Type, key: str | int) -> Type:
    """The type of what stands under `key` in a value of type `kind`; None where there is no such place."""
    if is_section(kind):
        field = kind.model_fields.get(key)
        return _plain(field.annotation) if field else None
    return get_args(kind)[-1] if is_container(kind) else None


def type_at(path: Path) -> Type:
    """The type at a path from the root; None where there is no such place."""
    kind: Type = ROOT
    for key in path:
        kind = child(kind, key)
    return kind


def fields_at(path: Path) -> tuple[str, ...]:
    """The keys that the section at a path knows; none where it is no section."""
    kind = type_at(path)
    return tuple(kind.model_fields) if is_section(kind) else ()


def places_of(key: str) -> list[str]:
    """The sections that know a key, by their dotted paths; a section that can stand under any name says `*`."""
    return [dotted(path) for path, kind in sections() if path and key in kind.model_fields]


def sections(path: Path = (), kind: Type = ROOT) -> Iterator[tuple[Path, Type]]:
    """Every section of the schema with its path, the root first; names a user chooses are `*`."""
    yield path, kind
    for name, field in kind.model_fields.items():
        inner, here = _plain(field.annotation), (*path, name)
        if _generic(inner) is dict:
            inner, here = get_args(inner)[-1], (*here, "*")
        if is_section(inner):
            yield from sections(here, inner)


def _plain(annotation: Type) -> Type:
    """The annotation without `| None`."""
    if _generic(annotation) in (Union, types.UnionType):
        return next(arg for arg in get_args(annotation) if arg is not types.NoneType)
    return annotation


def _generic(annotation: Type) -> Any:
    return get_origin(annotation)
