"""Codec: bytes to values and back, for pydantic models, msgspec structs and plain Python.

JSON is RFC 8259, in both directions: NaN, Infinity and numbers beyond a double are errors, never null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from math import isfinite
from pathlib import PurePath
from typing import Any, cast

import msgspec
from pydantic import AnyUrl, BaseModel, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from drakkar_flow.model.base import Model
from drakkar_flow.model.type_cache import TypeCache

__all__ = ["AS_TEXT", "IP_TYPES", "decoder_for", "encode", "to_row"]

IP_TYPES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
AS_TEXT = (PurePath, AnyUrl, *IP_TYPES)
"""Types of models beside those of JSON; every target gets them as text."""


def _json_form(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return msgspec.Raw(value.__pydantic_serializer__.to_json(value))
    if isinstance(value, AS_TEXT):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


_LEAVES = frozenset({str, int, bool, type(None), bytes})
_json = msgspec.json.Encoder(enc_hook=_json_form)
_check_numbers = msgspec.json.Decoder().decode  # refuses NaN, Infinity and 1e400, which pydantic accepts

_to_json: TypeCache[Callable[[Any], bytes] | None] = TypeCache(
    lambda kind: kind.__pydantic_serializer__.to_json if issubclass(kind, BaseModel) else None
)
"""The method of pydantic that writes a model."""

_FINITE_TYPES = frozenset(
    {
        "arguments", "bool", "bytes", "dataclass", "dataclass-args", "dataclass-field", "date", "datetime",
        "decimal", "default", "definition-ref", "definitions", "dict", "enum", "frozenset", "generator", "int",
        "is-instance", "lax-or-strict", "list", "literal", "model", "model-field", "model-fields",
        "multi-host-url", "none", "nullable", "set", "str", "tagged-union", "time", "timedelta", "tuple",
        "typed-dict", "typed-dict-field", "union", "url", "uuid"
    }
)  # fmt: skip
"""The kinds of pydantic's core schemas that never make a float that is not finite."""
_NO_SCHEMAS = frozenset({"config", "default", "expected", "metadata"})
"""The keys of core schemas that hold values of the user."""


def decoder_for(target: Any) -> Callable[[bytes], Any]:
    """Make the function that turns a record's value into `target`.

    `target` is a pydantic model, a msgspec struct, `bytes`, `str`, any type pydantic can validate
    from JSON (`dict`, `list[int]`, ...), or a function from bytes to a value.

    The decoder raises for text that is not UTF-8 or begins with a byte order mark, for unpaired surrogates, for NaN,
    Infinity and numbers beyond a double (a model with `allow_inf_nan=True` accepts these). The last value of a
    repeated key counts.

    >>> decoder_for(dict[str, int])(b'{"a": 1}')
    {'a': 1}
    """
    if target is bytes:
        return bytes
    if target is str:
        return lambda value: value.decode()
    if isinstance(target, type) and issubclass(target, BaseModel):
        validate = target.__pydantic_validator__.validate_json
        if target.model_config.get("allow_inf_nan"):
            return validate
        return _finite(validate, _core_schema(target))
    if isinstance(target, type) and issubclass(target, msgspec.Struct):
        return msgspec.json.Decoder(target).decode
    if callable(target) and not isinstance(target, type) and not hasattr(target, "__origin__"):
        return cast("Callable[[bytes], Any]", target)
    if target in (dict, list):
        return msgspec.json.Decoder(target).decode
    adapter: TypeAdapter[Any] = TypeAdapter(target)
    return _finite(adapter.validate_json, adapter.core_schema)


def _finite(validate: Callable[[bytes], Any], schema: Any) -> Callable[[bytes], Any]:
    """`validate` that also refuses numbers that are not finite.

    pydantic checks them itself where its schema says for each number that it is one, which costs nothing. Other values,
    such as `Any`, are read once more.
    """
    if schema is not None and _is_finite(schema):
        return validate
    if schema is not None and _is_finite(schema, floats=True) and _takes_schemas(SchemaValidator):
        return SchemaValidator(_finite_floats(schema), _use_prebuilt=False).validate_json

    def decode(value: bytes) -> Any:
        _check_numbers(value)
        return validate(value)

    return decode


def _finite_floats(schema: Any) -> Any:
    """Return a copy of a core schema whose floats have to be finite."""
    if isinstance(schema, Mapping):
        copied = {name: each if name in _NO_SCHEMAS else _finite_floats(each) for name, each in schema.items()}
        return copied | {"allow_inf_nan": False} if schema.get("type") == "float" else copied
    return [_finite_floats(each) for each in schema] if isinstance(schema, list) else schema


class _Inner(BaseModel):
    number: float


class _Outer(BaseModel):
    inner: _Inner


@cache
def _takes_schemas(make: Callable[..., SchemaValidator]) -> bool:
    """True if pydantic validates a model by the schema that it is given, and not by the model's own.

    `_use_prebuilt` is not part of its documented interface, so the effect is tried.
    """
    try:
        validator = make(_finite_floats(_core_schema(_Outer)), _use_prebuilt=False)
    except Exception:  # another version of pydantic
        return False
    try:
        validator.validate_json(b'{"inner": {"number": NaN}}')
    except ValidationError:
        return True
    return False


def _core_schema(model: type[BaseModel]) -> Any:
    try:
        return dict(model.__pydantic_core_schema__)
    except Exception:  # the model has undefined names
        return None


def _is_finite(schema: Any, *, floats: bool = False) -> bool:
    """True if no value of a core schema can be a float that is not finite; `floats` disregards declared floats."""
    if isinstance(schema, Mapping):
        kind = schema.get("type")
        if isinstance(kind, str) and kind not in _FINITE_TYPES and not (floats and kind == "float"):
            return False
        extra = schema.get("extra_behavior"), (schema.get("config") or {}).get("extra_fields_behavior")
        if "allow" in extra:
            return False
        return all(_is_finite(value, floats=floats) for name, value in schema.items() if name not in _NO_SCHEMAS)
    if isinstance(schema, (list, tuple)):
        return all(_is_finite(each, floats=floats) for each in schema)
    return True


def encode(data: Any) -> bytes:
    """Turn a payload's data into bytes: text as UTF-8, bytes unchanged, everything else as JSON.

    >>> encode({"a": 1})
    b'{"a":1}'

    Raises:
        TypeError: when `data` can't be written as JSON.
        ValueError: when `data` holds NaN or an infinity, which JSON does not have.
    """
    to_json = _to_json[type(data)]
    if to_json is not None:
        encoded = to_json(data)
    elif isinstance(data, bytes):
        return data
    elif isinstance(data, str):
        return data.encode()
    elif isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    elif isinstance(data, Model):
        encoded = data.model_dump_json().encode()
    else:
        encoded = _json.encode(data)
    if encoded.find(b"null") >= 0:  # the encoders write it for NaN, too; `in` takes three times as long
        _require_finite(data)
    return encoded


def _require_finite(value: Any) -> None:
    kind = type(value)
    if kind in _LEAVES:
        return
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{value} has no JSON form; send None or text")
    elif kind is dict or isinstance(value, Mapping):
        for each in value.values():
            _require_finite(each)
    elif kind is list or isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            _require_finite(each)
    elif isinstance(value, BaseModel):
        _require_finite(value.model_dump(warnings=False))
    elif isinstance(value, msgspec.Struct) or is_dataclass(value):
        _require_finite(to_row(value))


def to_row(data: Any) -> dict[str, Any]:
    """Turn a payload's data into columns and values.

    Raises:
        TypeError: when `data` has no fields.
    """
    if isinstance(data, (BaseModel, Model)):
        return data.model_dump()
    if isinstance(data, msgspec.Struct):
        return msgspec.structs.asdict(data)
    if isinstance(data, Mapping):
        return {str(name): value for name, value in data.items()}
    if is_dataclass(data) and not isinstance(data, type):
        return {field.name: getattr(data, field.name) for field in fields(data)}
    raise TypeError(f"a row needs a model, a struct, a dataclass or a mapping, not {type(data).__name__}")
