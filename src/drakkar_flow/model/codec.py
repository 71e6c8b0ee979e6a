"""Bytes to values and back, for pydantic models, msgspec structs and plain Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from math import isfinite
from pathlib import PurePath
from typing import Any, cast

import msgspec
from pydantic import AnyUrl, BaseModel, TypeAdapter

from drakkar_flow.model.base import Model

__all__ = ["AS_TEXT", "IP_TYPES", "decoder_for", "encode", "to_row"]

IP_TYPES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
AS_TEXT = (PurePath, AnyUrl, *IP_TYPES)
"""Types that models have beside those of JSON, and that every target gets as text."""


def _json_form(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return msgspec.Raw(value.__pydantic_serializer__.to_json(value))
    if isinstance(value, AS_TEXT):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


_LEAVES = frozenset({str, int, bool, type(None), bytes})
_json = msgspec.json.Encoder(enc_hook=_json_form)


def decoder_for(target: Any) -> Callable[[bytes], Any]:
    """Make the function that turns a record's value into `target`.

    `target` is a pydantic model, a msgspec struct, `bytes`, `str`, any type pydantic can validate
    from JSON (`dict`, `list[int]`, ...), or a function from bytes to a value.

    >>> decoder_for(dict[str, int])(b'{"a": 1}')
    {'a': 1}
    """
    if target is bytes:
        return bytes
    if target is str:
        return lambda value: value.decode()
    if isinstance(target, type) and issubclass(target, BaseModel):
        return target.__pydantic_validator__.validate_json
    if isinstance(target, type) and issubclass(target, msgspec.Struct):
        return msgspec.json.Decoder(target).decode
    if callable(target) and not isinstance(target, type) and not hasattr(target, "__origin__"):
        return cast("Callable[[bytes], Any]", target)
    return TypeAdapter(target).validate_json


def encode(data: Any) -> bytes:
    """Turn a payload's data into bytes: text as UTF-8, bytes as they are, everything else as JSON.

    >>> encode({"a": 1})
    b'{"a":1}'

    Raises:
        TypeError: when `data` can't be written as JSON.
        ValueError: when `data` holds NaN or an infinity, which JSON does not have.
    """
    if isinstance(data, BaseModel):
        encoded = data.__pydantic_serializer__.to_json(data)
    elif isinstance(data, bytes):
        return data
    elif isinstance(data, str):
        return data.encode()
    elif isinstance(data, bytearray | memoryview):
        return bytes(data)
    elif isinstance(data, Model):
        encoded = data.model_dump_json().encode()
    else:
        encoded = _json.encode(data)
    if b"null" in encoded:  # the encoders write it for NaN, too
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
    elif kind is list or isinstance(value, list | tuple | set | frozenset):
        for each in value:
            _require_finite(each)
    elif isinstance(value, BaseModel):
        _require_finite(value.model_dump(mode="json", warnings=False))
    elif isinstance(value, msgspec.Struct) or is_dataclass(value):
        _require_finite(to_row(value))


def to_row(data: Any) -> dict[str, Any]:
    """Turn a payload's data into columns and values.

    Raises:
        TypeError: when `data` has no fields.
    """
    if isinstance(data, BaseModel | Model):
        return data.model_dump()
    if isinstance(data, msgspec.Struct):
        return msgspec.structs.asdict(data)
    if isinstance(data, Mapping):
        return {str(name): value for name, value in data.items()}
    if is_dataclass(data) and not isinstance(data, type):
        return {field.name: getattr(data, field.name) for field in fields(data)}
    raise TypeError(f"a row needs a model, a struct, a dataclass or a mapping, not {type(data).__name__}")
