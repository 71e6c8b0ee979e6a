"""Problems of a configuration in plain English: the place, what is wrong, the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr
from pydantic_core import ErrorDetails

from drakkar_flow.config.loading.kafka_names import here_called
from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.schema import ROOT, Path, Type, fields_at, is_secret, places_of, similar, type_at
from drakkar_flow.errors import Problem
from drakkar_flow.kernel.redaction import MASK, is_sensitive, mask
from drakkar_flow.kinds.registry import EXECUTORS, SINKS

__all__ = ["unknown_key_problem", "validation_problem"]

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


def validation_problem(error: ErrorDetails, layer: Layer, root: Type = ROOT) -> Problem:
    """Errors of pydantic, for the author of the configuration."""
    path = tuple(error["loc"])
    if path[-1:] == ("[key]",):  # pydantic's mark of a mapping's key, which is no value to show or to hide
        return Problem(layer.where(path[:-1]), str(error.get("ctx", {}).get("error", error["msg"])))
    if error["type"] == "extra_forbidden":
        return unknown_key_problem(path, layer, root)
    if error["type"] == "missing":
        return Problem(layer.where(path), "is missing", "it has no default")
    if path[-1:] == ("mode",) and (broken := EXECUTORS.broken().get(str(error["input"]))):
        return Problem(layer.where(path), f"{broken.where}: {broken.what}", broken.remedy)
    what, remedy = _what(error, path, root)
    return Problem(layer.where(path), what, remedy)


def unknown_key_problem(path: Path, layer: Layer, root: Type = ROOT) -> Problem:
    """A key that its section does not know, with the nearest ones it does, or what is wrong with its plug-in."""
    registry = SINKS if path[:-1] == ("sinks",) else EXECUTORS if path[0] in ("executor", "executors") else None
    if registry is not None and (broken := registry.broken().get(str(path[-1]))):
        return Problem(layer.where(path), f"{broken.where}: {broken.what}", broken.remedy)
    return Problem(layer.where(path), "unknown key", _remedy_for_unknown(path, root))


def _what(error: ErrorDetails, path: Path, root: Type) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    given = _given(error["input"], path, root)
    if kind in ("value_error", "assertion_error"):
        return _without_value(str(context["error"]), error["input"], given), ""
    if kind == "literal_error":
        return f"must be one of {context['expected']}, not {given}", ""
    if kind == "string_too_short":
        return "must not be empty", ""
    if kind in _BOUNDS:
        phrase, bound = _BOUNDS[kind]
        return f"{phrase} {context[bound]}, not {given}", ""
    if kind == "finite_number":
        return f"must be a finite number, not {given}", ""
    message = _without_value(error["msg"], error["input"], given)
    return _wrong_type(kind, message, given, error["input"])


def _without_value(message: str, value: object, given: str) -> str:
    """The message on one line, and without the value when that is a secret: a user's own rule may repeat it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if given == MASK and isinstance(text, str | int | float) and str(text):
        message = message.replace(str(text), MASK).replace(repr(text)[1:-1], MASK)
    return mask(" ".join(message.split()))


def _wrong_type(kind: str, message: str, given: str, value: object) -> tuple[str, str]:
    expected = _EXPECTED.get(kind.partition("_")[0])
    if not expected:
        return f"{message[:1].lower()}{message[1:]}, given {given}", ""
    remedy = "quote it" if expected == "text" and isinstance(value, int | float) else ""
    if value is None:
        remedy = "remove the key to get its default"
    return f"must be {expected}, not {given}", remedy


def _given(value: object, path: Path, root: Type) -> str:
    """The value for a message: never a secret, never long."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if is_secret(type_at(path, root)) or any(is_sensitive(str(part)) for part in path[1:]):
        return MASK
    if not isinstance(value, str | int | float):
        return f"a {type(value).__name__}"
    if isinstance(value, str) and fields_at(path, root):
        return "text"
    text = repr(mask(value)) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:60]}..."


def _remedy_for_unknown(path: Path, root: Type) -> str:
    *parent, last = path
    key = str(last)
    known = fields_at(tuple(parent), root)
    near = similar(key.lower().replace("-", "_"), known)
    if synonym := getattr(type_at(tuple(parent), root), "synonyms", {}).get(key.lower()):
        return f"did you mean {synonym!r}?"
    kafka = here_called(path)
    elsewhere = "" if path[0] == "app" else " or ".join(places_of(key)[:4])
    if kafka:
        doubt = f", or does it belong under {elsewhere}?" if elsewhere and kafka.endswith("?") else kafka[-1]
        return f"{kafka[:-1]}{doubt}"
    if near:
        doubt = f", or does it belong under {elsewhere}" if elsewhere else ""
        return f"did you mean {' or '.join(map(repr, near))}{doubt}?"
    if elsewhere:
        return f"it belongs under {elsewhere}"
    if path[0] != "app" and key in fields_at(()):
        return f"{key!r} belongs at the top level"
    return f"known keys are {', '.join(known)}" if known else ""
