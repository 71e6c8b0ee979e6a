"""Checks the values in `client_config`, by asking librdkafka itself, without a broker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.sections.client_properties import problem_of
from drakkar_flow.errors import Problem
from drakkar_flow.kernel.redaction import is_sensitive
from drakkar_flow.librdkafka import UNSERVED

__all__ = ["refused_properties", "value_problem"]

_WITH_UNIT = re.compile(r"\s*[-+]?[\d.]+\s*[A-Za-z%]+\s*")
_RANGE = re.compile(r"outside allowed range (\S+)\.\.(\S+)")
_NO_VALUE = "Invalid value for"
_ACKS = ("acks", "request.required.acks")


def refused_properties(layer: Layer) -> Iterator[Problem]:
    """Values that librdkafka refuses, of the source, the sinks and the dead letters, each with its place."""
    sinks = _mapping(_mapping(layer.tree.get("sinks")).get("kafka"))
    sections: dict[tuple[str, ...], Any] = {(name,): layer.tree.get(name) for name in ("kafka", "dlq")}
    sections |= {("sinks", "kafka", str(name)): sink for name, sink in sinks.items()}
    for path, section in sections.items():
        for name, value in _mapping(_mapping(section).get("client_config")).items():
            place = (*path, "client_config", name)
            if not isinstance(name, str) or problem_of(name, producer=path != ("kafka",)) or layer.is_broken(place):
                continue  # reported elsewhere
            if what := value_problem(name, value):
                yield Problem(layer.where(place), what)


def value_problem(name: str, value: Any) -> str:
    """Reason why librdkafka refuses or misreads a value; empty if it is valid.

    >>> value_problem("linger.ms", "often"), value_problem("socket.timeout.ms", "10 s"), value_problem("linger.ms", 5)
    ("must be a number, not 'often'", "must be a number, not '10 s'", '')
    """
    if not isinstance(value, str | int | float):  # reported by the schema
        return ""
    if name in _ACKS and str(value).strip() == "0":
        return "with acks 0 no broker acknowledges anything; leave it out, or set it to all"
    expected = _expected(name, _refusal(name, value))
    if not expected and isinstance(value, str) and _WITH_UNIT.fullmatch(value) and _refusal(name, "x"):
        expected = "must be a number"  # librdkafka would take the digits and drop the unit
    return expected if not expected or is_sensitive(name) else f"{expected}, not {value!r}"


def _expected(name: str, said: str) -> str:
    """Values that a property accepts, from the library's error about a value; empty without one."""
    if allowed := _RANGE.search(said):
        return f"must be between {allowed[1]} and {allowed[2]}"
    if said.startswith("Expected bool"):
        return "must be true or false"
    if name in _ACKS:
        return said and "must be all or a number of replicas"
    if said.startswith(_NO_VALUE) and not _refusal(name, 1).startswith(_NO_VALUE):
        return "must be a number"
    return said and "must be one of the values in librdkafka's CONFIGURATION.md"


def _refusal(name: str, value: Any) -> str:
    """Error of librdkafka about a single property; empty if it accepts it."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient({"log_level": 0, name: value}, logger=UNSERVED)
    except KafkaException as error:
        said: str = error.args[0].str().strip()
        return "" if said.startswith("Failed to create") else said  # which is about several properties
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
