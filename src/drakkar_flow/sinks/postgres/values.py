"""PostgreSQL values: the form of a Python value for a parameter of a known type. Pure.

A value is stored as it is, or refused: no value is rounded, cut or guessed here. Text for types without a Python form
is parsed by the server (`Parsed`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from math import isfinite, isinf
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from drakkar_flow.errors import SinkRejected
from drakkar_flow.model.codec import AS_TEXT, IP_TYPES, encode, to_row

__all__ = ["Parameter", "Parsed", "fit_row", "fitter_of"]


class Parameter(NamedTuple):
    """One parameter of a statement: its column or param, and its type."""

    name: str
    type_name: str
    kind: str = "scalar"
    """`scalar`, `array`, `composite`, `range` or `multirange`."""
    schema: str = "pg_catalog"
    attributes: frozenset[str] = frozenset()
    """Names of a composite type's attributes."""

    @property
    def never_parsed(self) -> bool:
        """True if no value of the type is parsed by the server."""
        return self.schema == "pg_catalog" and self.type_name in _NEVER_PARSED

    @property
    def sql_type(self) -> str:
        """Quoted name of the type.

        >>> Parameter("tags", "mood[]", "array", "app").sql_type
        '"app"."mood"[]'
        """
        element = self.type_name.removesuffix("[]")
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (self.schema, element))
        return quoted + self.type_name[len(element) :]


class Parsed(NamedTuple):
    """A value as text, and the expression with which the server parses it; `{}` stands for the parameter."""

    value: str | list[Any]
    expression: str


class _UnfitError(ValueError):
    """Reason why a value is refused, without the value."""


Fitter = Callable[[Any], Any]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NEVER_PARSED = frozenset(
    {"int2", "int4", "int8", "oid", "numeric", "float4", "float8", "bool", "text", "varchar", "bpchar", "name", "xml"}
    | {"bytea", "json", "jsonb", "uuid", "time", "timetz"}
)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = {"nan", "inf", "-inf", "infinity", "-infinity"}
_TEMPORAL_WORDS = {"infinity", "-infinity"}
_EXPONENTS = range(-16383, 131072)
"""Limits of numeric."""
_LISTS = (list, tuple, set, frozenset)


def fit_row(fitters: Sequence[tuple[Parameter, Fitter]], row: Sequence[Any]) -> list[Any]:
    """Convert the values of a row to the forms that their parameters need.

    >>> price, at = Parameter("price", "numeric"), Parameter("at", "timestamptz")
    >>> fit_row([(price, fitter_of(price)), (at, fitter_of(at))], [0.1, "2026-01-02T03:04:05Z"])
    [Decimal('0.1'), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)]

    Raises:
        SinkRejected: a value does not fit its parameter; names the column, its type and the value's type.
    """
    try:
        return [None if value is None else fitter(value) for (_, fitter), value in zip(fitters, row, strict=True)]
    except Exception:  # not every fitter takes an enumeration; else find the refused value
        return [
            None if value is None else _fit(parameter, fitter, value)
            for (parameter, fitter), value in zip(fitters, row, strict=True)
        ]


def fitter_of(parameter: Parameter) -> Fitter:
    """Return the function that converts a value, None excepted, to the form that a parameter needs."""
    if parameter.kind == "array":
        return partial(_array, parameter)
    known = _SCALARS.get(parameter.type_name) if parameter.schema == "pg_catalog" else None
    return known or partial(_KINDS.get(parameter.kind, _other), parameter)


def _fit(parameter: Parameter, fitter: Fitter, value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    try:
        return fitter(value)
    except Exception as error:  # a model's own serializers may raise anything
        what = f"{parameter.name} ({parameter.type_name}) does not take this {type(value).__name__}"
        if isinstance(error, _UnfitError):
            raise SinkRejected(f"{what}: {error}") from None
        raise SinkRejected(what, detail=f"{type(error).__name__}: {error}") from None


def _integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise _UnfitError("the text is not an integer")
    elif not isinstance(value, (int, float, Decimal)):
        raise _UnfitError("use a number")
    elif not isinstance(value, int) and not (isfinite(value) and value == int(value)):
        raise _UnfitError("the number is not an integer")
    whole = int(value)
    if not low <= whole <= high:
        raise _UnfitError(f"the number is not in {low} to {high}")
    return whole


def _numeric(value: Any) -> Decimal:
    if isinstance(value, float):
        number = Decimal(repr(float(value)))  # as it is written, not its binary expansion
    elif isinstance(value, (int, Decimal)):
        number = Decimal(value)
    else:
        number = Decimal(_number_text(value))
    if number.is_finite() and number and (number.adjusted() not in _EXPONENTS or _exponent(number) not in _EXPONENTS):
        raise _UnfitError("the number has more digits than numeric can hold")
    return number


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def _float(value: Any) -> float:
    if isinstance(value, float):
        return float(value)
    exact = Decimal(value) if isinstance(value, (int, Decimal)) else Decimal(_number_text(value))
    number = float(exact)
    if exact.is_finite() and (isinf(number) or Decimal(repr(number)) != exact):
        raise _UnfitError("a float has not that many digits; use a numeric column")
    return number


def _real(value: Any) -> float:
    number = _float(value)
    if not isinstance(value, float) and isfinite(number) and number == int(number) and abs(number) > 2**24:
        raise _UnfitError("a float4 has not that many digits; use a numeric column")
    return number


def _number_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _UnfitError("use a number")
    if not _NUMBER.fullmatch(value) and value.lower() not in _NOT_FINITE:
        raise _UnfitError("the text is not a number")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, str)) and value in (0, 1, "true", "false"):
        return value in (1, "true")
    raise _UnfitError('use true or false; 0, 1, "true" and "false" are taken too')


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            raise _UnfitError("the bytes are not UTF-8; use a bytea column") from None
    elif isinstance(value, (date, time, timedelta, UUID, Decimal)):
        value = msgspec.to_builtins(value)
    elif isinstance(value, Enum) and not isinstance(value, str):
        return _text(value.value)
    elif isinstance(value, AS_TEXT):
        value = str(value)
    elif not isinstance(value, str):
        value = encode(value).decode()
    if "\0" in value:
        raise _UnfitError("PostgreSQL's text can't hold the character NUL")
    return str.__str__(value)  # of an enumeration its value


def _bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str) and value.startswith(r"\x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            raise _UnfitError(r"the text behind \x is not hexadecimal") from None
    raise _UnfitError(r"use bytes, or hexadecimal text that begins with \x; decode base64 before")


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value
    return encode(list(value) if isinstance(value, (set, frozenset)) else value).decode()


def _uuid(value: Any) -> UUID:
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise _UnfitError("use a UUID or its text")
    try:
        return UUID(value)
    except ValueError:
        raise _UnfitError("the text is not a UUID") from None


def _iso(kind: type[Any], value: Any) -> Any:
    try:
        return kind.fromisoformat(value)
    except ValueError:
        raise _UnfitError("the text is not in ISO 8601, like 2026-01-02T03:04:05Z") from None


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, str):
        return _iso(datetime, value)  # type: ignore[no-any-return]
    raise _UnfitError("use a datetime or text in ISO 8601; convert numbers before")


def _timestamptz(value: Any) -> datetime | Parsed:
    if isinstance(value, str) and value in _TEMPORAL_WORDS:
        return Parsed(value, "{}::text::timestamptz")
    moment = _moment(value)
    return moment if moment.tzinfo or isinstance(value, datetime) else moment.replace(tzinfo=UTC)


def _timestamp(value: Any) -> datetime | Parsed:
    if isinstance(value, str) and value in _TEMPORAL_WORDS:
        return Parsed(value, "{}::text::timestamp")
    moment = _moment(value)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _date(value: Any) -> date | Parsed:
    if isinstance(value, str) and value in _TEMPORAL_WORDS:
        return Parsed(value, "{}::text::date")
    moment = _moment(value)
    if moment.time() != time():
        raise _UnfitError("the value has a time of day")
    return moment.date()


def _time(value: Any) -> time:
    clock = _timetz(value)
    if clock.tzinfo is not None:
        raise _UnfitError("the value has an offset; use a timetz column")
    return clock


def _timetz(value: Any) -> time:
    if isinstance(value, time):
        return value
    if isinstance(value, str):
        return _iso(time, value)  # type: ignore[no-any-return]
    raise _UnfitError("use a time or text in ISO 8601")


def _interval(value: Any) -> timedelta | Parsed:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return Parsed(_text(value), "{}::text::interval")
    raise _UnfitError("use a timedelta or text like P1DT2H; convert numbers before")


def _address(sql_type: str, value: Any) -> Any:
    if isinstance(value, IP_TYPES):
        return value
    if isinstance(value, str):
        return Parsed(_text(value), f"{{}}::text::{sql_type}")
    raise _UnfitError("use text or an object of ipaddress")


def _array(parameter: Parameter, value: Any) -> list[Any] | Parsed:
    if not isinstance(value, _LISTS):
        raise _UnfitError("use a list")
    element = parameter._replace(type_name=parameter.type_name.removesuffix("[]"), kind="scalar")
    fit_element = fitter_of(element)
    nested = element.type_name not in ("json", "jsonb")
    parsed = False

    def fit(each: Any) -> Any:
        nonlocal parsed
        if each is None or (nested and isinstance(each, _LISTS)):
            return each if each is None else [fit(inner) for inner in each]
        fitted = fit_element(each.value if isinstance(each, Enum) else each)
        parsed = parsed or isinstance(fitted, Parsed)
        return fitted

    fitted = [fit(each) for each in value]
    return Parsed(_as_text(fitted), f"{{}}::text[]::{parameter.sql_type}") if parsed else fitted


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(each) for each in value]
    if isinstance(value, Parsed):
        return value.value
    return None if value is None else _text(value)


def _range(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        value = _range_text(value)
    return Parsed(_text(value), f"{{}}::text::{parameter.sql_type}") if isinstance(value, str) else value


def _multirange(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, (list, tuple)) and all(isinstance(each, (list, tuple)) for each in value):
        value = "{" + ",".join(map(_range_text, value)) + "}"
    return _range(parameter, value) if isinstance(value, str) else value


def _range_text(bounds: Sequence[Any]) -> str:
    if len(bounds) != 2:
        raise _UnfitError("use a list of the lower bound and the upper one, which is not in the range")
    return f"[{_part(bounds[0])},{_part(bounds[1])})"


def _part(value: Any) -> str:
    if value is None:
        return ""
    return '"' + _text(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _composite(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, str):
        return Parsed(_text(value), f"{{}}::text::{parameter.sql_type}")
    if isinstance(value, (list, tuple)):
        return Parsed("(" + ",".join(map(_part, value)) + ")", f"{{}}::text::{parameter.sql_type}")
    if unknown := set(to_row(value)) - parameter.attributes:
        raise _UnfitError(f"the type has no attribute {', '.join(sorted(unknown))}")
    return Parsed(encode(value).decode(), f"jsonb_populate_record(NULL::{parameter.sql_type}, {{}}::text::jsonb)")


def _other(parameter: Parameter, value: Any) -> Any:
    """Convert values of types that only the server knows, enumerations and extension types among them."""
    if isinstance(value, Enum):
        value = value.value
    own = parameter.schema != "pg_catalog"
    if isinstance(value, (str, bool, int, float, Decimal, date, time, UUID)) or (
        own and isinstance(value, (list, Mapping))
    ):
        return Parsed(_text(value), f"{{}}::text::{parameter.sql_type}")
    return value


_KINDS: Mapping[str, Callable[[Parameter, Any], Any]] = {
    "range": _range,
    "multirange": _multirange,
    "composite": _composite,
}
_SCALARS: Mapping[str, Fitter] = {
    **{f"int{size}": partial(_integer, low=-(2 ** (8 * size - 1)), high=2 ** (8 * size - 1) - 1) for size in (2, 4, 8)},
    "oid": partial(_integer, low=0, high=2**32 - 1),
    "numeric": _numeric,
    "float4": _real,
    "float8": _float,
    "bool": _boolean,
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "xml"), _text),
    "bytea": _bytes,
    "json": _json,
    "jsonb": _json,
    "uuid": _uuid,
    "timestamptz": _timestamptz,
    "timestamp": _timestamp,
    "date": _date,
    "time": _time,
    "timetz": _timetz,
    "interval": _interval,
    "inet": partial(_address, "inet"),
    "cidr": partial(_address, "cidr"),
}
