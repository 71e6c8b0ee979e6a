"""Base of all values: msgspec structs, quick to make, with pydantic's method names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Self

import msgspec
from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

__all__ = ["Model", "Payload"]


class _Serializer:
    """Lets pydantic serialize a model anywhere."""

    def __get__(self, _value: object, owner: type[Model]) -> SchemaSerializer:
        return _adapter(owner).serializer


class Model(msgspec.Struct):
    """A struct with the methods of a pydantic model, like py-drakkar's; it may be a field of one, too.

    The methods cost nothing when values are created. As in pydantic, equal fields make equal values,
    and values can be changed and have no hash. Unlike pydantic, an unknown argument is a TypeError,
    and only `model_validate` checks the types of arguments, unless a class does.

    >>> class Point(Model, kw_only=True):
    ...     x: int
    ...     y: int = 0
    >>> Point(x=1).model_copy(update={"y": 2}).model_dump()
    {'x': 1, 'y': 2}
    >>> Point.model_validate({"x": "3"})
    Point(x=3, y=0)
    """

    __pydantic_serializer__ = _Serializer()
    _internal: ClassVar[frozenset[str]] = frozenset()
    """Internal fields: neither dumped nor validated."""

    def model_dump(
        self,
        *,
        mode: Literal["python", "json"] = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """The fields by their names, nested models as dicts too; with `mode="json"` only JSON types.

        Raises:
            TypeError: `include` or `exclude` is a mapping; they can't select nested fields.
        """
        if isinstance(include, Mapping) or isinstance(exclude, Mapping):
            raise TypeError("include and exclude take the names of fields, not a mapping")
        dumped: dict[str, Any] = self.__pydantic_serializer__.to_python(
            self, mode=mode, exclude_none=exclude_none, fallback=msgspec.to_builtins
        )
        chosen = dumped.keys() if include is None else set(include)
        return {name: value for name, value in dumped.items() if name in chosen and name not in exclude}

    def model_dump_json(
        self,
        *,
        indent: int | None = None,
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_none: bool = False,
    ) -> str:
        """The fields as JSON; bytes become text.

        Raises:
            ValueError: a value has no JSON form, or bytes are not UTF-8.
        """
        dumped = self.model_dump(mode="json", include=include, exclude=exclude, exclude_none=exclude_none)
        plain = msgspec.json.encode(dumped)
        return (plain if indent is None else msgspec.json.format(plain, indent=indent)).decode()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the fields of `update` replaced; `deep` copies the values of the other fields as well.

        Raises:
            TypeError: `update` names a field that does not exist.
        """
        return msgspec.structs.replace(copy.deepcopy(self) if deep else self, **(update or {}))

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        """Return `value` if it is an instance, else an instance made of a mapping of fields, types checked.

        Raises:
            pydantic.ValidationError: with everything that does not fit.
        """
        made: Self = _adapter(cls).validate_python(value)
        return made

    @classmethod
    def model_validate_json(cls, text: str | bytes) -> Self:
        """Return an instance made of a JSON object of fields, types checked.

        Raises:
            pydantic.ValidationError: with everything that does not fit.
        """
        made: Self = _adapter(cls).validate_json(text)
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def make(value: Any, validate: Callable[[Any], dict[str, Any]]) -> Any:
            return value if isinstance(value, cls) else cls(**validate(value))

        known = [field for field in msgspec.structs.fields(cls) if field.name not in cls._internal]
        fields = core_schema.typed_dict_schema(
            {
                field.name: core_schema.typed_dict_field(handler.generate_schema(field.type), required=field.required)
                for field in known
            }
        )

        def values(model: Any) -> dict[str, Any]:
            return {field.name: getattr(model, field.name) for field in known}

        as_dict = core_schema.plain_serializer_function_ser_schema(values, return_schema=fields)
        return core_schema.no_info_wrap_validator_function(make, fields, serialization=as_dict)


class Payload(Model, kw_only=True):
    """A value for a sink; `sink` names it, and may stay empty if only one of the kind exists."""

    sink: str = ""


@cache
def _adapter(model: type[Model]) -> TypeAdapter[Any]:
    return TypeAdapter(model)
