"""What all values share: fields of a msgspec struct, read and copied by pydantic's method names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Self

import msgspec
from pydantic import BaseModel

__all__ = ["Model", "Payload"]


class Model(msgspec.Struct):
    """A struct that answers to the methods that handlers written for pydantic models call.

    It costs nothing at construction. As with pydantic, models are equal when their fields are, have
    no hash, and keyword arguments alone make them; other than there an unknown argument is a
    TypeError, and types are checked only where a class says so.

    >>> class Point(Model, kw_only=True):
    ...     x: int
    ...     y: int = 0
    >>> Point(x=1).model_copy(update={"y": 2}).model_dump()
    {'x': 1, 'y': 2}
    """

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        """All fields with what is inside them as plain Python; bytes and objects of other kinds stay as they are."""
        dumped = {name: _plain(getattr(self, name)) for name in self.__struct_fields__}
        return {name: value for name, value in dumped.items() if value is not None or not exclude_none}

    def model_dump_json(self, *, exclude_none: bool = False) -> str:
        """All fields as JSON; bytes as text, what is not UTF-8 in them replaced.

        Raises:
            TypeError: when a value has no JSON form.
        """
        return _json.encode(_readable(self.model_dump(exclude_none=exclude_none))).decode()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with the fields of `update` replaced; `deep` copies what the fields hold as well.

        Raises:
            TypeError: when `update` names a field that does not exist.
        """
        return msgspec.structs.replace(copy.deepcopy(self) if deep else self, **(update or {}))

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        """`value` itself when it is one of these, else one made from a mapping of its fields."""
        return value if isinstance(value, cls) else cls(**value)


class Payload(Model, kw_only=True):
    """What a hook sends to a sink; `sink` names it, and may stay empty where only one of the kind exists."""

    sink: str = ""


_json = msgspec.json.Encoder()


def _plain(value: Any) -> Any:
    """What pydantic's `model_dump` makes of a value: models become dicts, however deep they are."""
    if isinstance(value, Model):
        return value.model_dump()
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(_plain(each) for each in value)
    return value


def _readable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {name: _readable(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_readable(each) for each in value]
    return value
