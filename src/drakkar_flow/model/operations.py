"""Operations of a payload type, each with its required and optional fields."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import msgspec

__all__ = ["Fields", "check_fields", "operation"]

Op = TypeVar("Op", bound=StrEnum)

_ALWAYS = {"sink", "op"}
_COLLECTIONS = {str, list, tuple, dict, set}


class Fields(NamedTuple):
    """Required and optional fields of one operation; all other fields must stay empty."""

    needs: frozenset[str]
    may: frozenset[str] = frozenset()

    @classmethod
    def of(cls, needs: str, may: str = "") -> Fields:
        """Create it from two lines of names.

        >>> sorted(Fields.of("key data", "ttl").needs)
        ['data', 'key']
        """
        return cls(frozenset(needs.split()), frozenset(may.split()))


def operation(kind: type[Op], value: str) -> Op:
    """Return the operation named `value`.

    Raises:
        ValueError: if there is none of that name.
    """
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"there is no op {value!r}; choose one of {', '.join(kind)}") from None


def check_fields(payload: msgspec.Struct, op: StrEnum, table: Mapping[Any, Fields]) -> None:
    """Check a payload against its operation: unused fields are errors like missing ones.

    A field is missing when it is None, or an empty text or collection; `data` only when it is None.

    Raises:
        ValueError: naming every missing and unused field.
    """
    needs, may = table[op]
    given = {
        name
        for name, value in zip(payload.__struct_fields__, msgspec.structs.astuple(payload), strict=True)
        if value is not None and (value or name == "data" or type(value) not in _COLLECTIONS)
    }
    missing, unused = needs - given, given - needs - may - _ALWAYS
    if not missing and not unused:
        return
    name = f"{type(payload).__name__}(op={op.value!r})"
    problems = []
    if missing:
        problems.append(f"{name} needs {_names(missing)}")
    if unused:
        problems.append(f"{name} does not use {_names(unused)}: leave it out or choose another op")
    raise ValueError("; ".join(problems))


def _names(fields: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(fields))
