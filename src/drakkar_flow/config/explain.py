"""Schema violations in plain English: where, what was given, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr
from pydantic_core import ErrorDetails

from drakkar_flow.config.layers import Layer
from drakkar_flow.config.redact import MASK, is_sensitive, mask_url
from drakkar_flow.config.schema import Path, fields_at, places_of, type_at
from drakkar_flow.errors import Problem

__all__ = ["explain"]

_FORMER: Final[dict[Path, str]] = {
    ("debug",): "the worker's web page has no settings here; remove the section",
    ("cache",): "there is no cache; remove the section",
    ("sources",): "what stood under sources.kafka belongs under kafka",
    ("sinks", "circuit_breaker"): "each sink has its own retry section instead",
    ("dlq", "on_send_failure"): "it is called on_failure: stall or drop",
}
"""Keys of py-drakkar that went elsewhere."""

_EXPECTED: Final = {
    "bool": "true or false",
    "dict": "a mapping of keys to values",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a section of keys and values",
    "string": "text",
}

_BOUNDS: Final = {
    "greater_than": ("must be more than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


def explain(error: ErrorDetails, layer: Layer) -> Problem:
    """What pydantic found, for the person who wrote the configuration."""
    path = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        return Problem(layer.where(path), "unknown key", _remedy_for_unknown(path))
    if error["type"] == "missing":
        return Problem(layer.where(path), "is missing", "it has no default")
    what, remedy = _what(error, path)
    return Problem(layer.where(path), what, remedy)


def _what(error: ErrorDetails, path: Path) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    given = _given(error["input"], path)
    if kind == "value_error":
        return str(context["error"]), ""
    if kind == "literal_error":
        return f"must be one of {context['expected']}, not {given}", ""
    if kind == "string_too_short":
        return "must not be empty", ""
    if kind in _BOUNDS:
        phrase, bound = _BOUNDS[kind]
        return f"{phrase} {context[bound]}, not {given}", ""
    if kind == "finite_number":
        return f"must be a finite number, not {given}", ""
    return _wrong_type(kind, error["msg"], given, error["input"])


def _wrong_type(kind: str, message: str, given: str, value: object) -> tuple[str, str]:
    expected = _EXPECTED.get(kind.partition("_")[0])
    if not expected:
        return f"{message[:1].lower()}{message[1:]}, given {given}", ""
    remedy = "quote it" if expected == "text" and isinstance(value, int | float) else ""
    if value is None:
        remedy = "remove the key to get its default"
    return f"must be {expected}, not {given}", remedy


def _given(value: object, path: Path) -> str:
    """The value for a message: never a secret, never long."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    kind = type_at(path)
    if kind is SecretStr or any(is_sensitive(str(part)) for part in path[1:]):
        return MASK
    if not isinstance(value, str | int | float):
        return f"a {type(value).__name__}"
    if isinstance(value, str) and fields_at(path):
        return "text"
    text = repr(mask_url(value)) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:60]}..."


def _remedy_for_unknown(path: Path) -> str:
    if path in _FORMER:
        return _FORMER[path]
    *parent, last = path
    key = str(last)
    known = fields_at(tuple(parent))
    near = _similar(key.lower().replace("-", "_"), known)
    elsewhere = " or ".join(places_of(key)[:4])
    if near:
        doubt = f", or does it belong under {elsewhere}" if elsewhere else ""
        return f"did you mean {' or '.join(map(repr, near))}{doubt}?"
    if elsewhere:
        return f"it belongs under {elsewhere}"
    if key in fields_at(()):
        return f"{key!r} belongs at the top level"
    return f"known keys are {', '.join(known)}" if known else ""


def _similar(key: str, known: tuple[str, ...]) -> list[str]:
    """The best two of the known keys that look like the key or contain it."""
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    return near or [name for name in known if len(key) > 2 and key in name][:2]
