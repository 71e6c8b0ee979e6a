"""Sections extended by plug-ins: a key for each kind that is installed or was added in code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, create_model

__all__ = ["section_with"]

M = TypeVar("M", bound=BaseModel)

_made: dict[tuple[type[BaseModel], tuple[tuple[str, Any], ...]], type[Any]] = {}


def section_with(section: type[M], fields: Mapping[str, tuple[Any, Any]]) -> type[M]:
    """The section with further fields, given as (type, default); itself without any. Same fields, same type.

    >>> class Sinks(BaseModel):
    ...     pass
    >>> section_with(Sinks, {"csv": (dict[str, str], {})})(csv={"a": "b"})
    Sinks(csv={'a': 'b'})
    """
    if not fields:
        return section
    key = section, tuple((name, annotation) for name, (annotation, _) in fields.items())
    if key not in _made:
        made: Any = create_model(
            section.__name__,
            __base__=section,
            __doc__=section.__doc__,
            __module__=section.__module__,
            **dict(fields),  # type: ignore[call-overload]
        )
        _made[key] = made
    return _made[key]
