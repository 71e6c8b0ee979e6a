"""Registry of every kind of sink: the library's own and those of plug-ins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from drakkar_flow.kinds.registry import SINKS
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.sinks.filesystem import sink as filesystem
from drakkar_flow.sinks.http import sink as http
from drakkar_flow.sinks.kafka import sink as kafka
from drakkar_flow.sinks.mongo import sink as mongo
from drakkar_flow.sinks.postgres import sink as postgres
from drakkar_flow.sinks.redis import sink as redis
from drakkar_flow.sinks.sqlite import sink as sqlite

__all__ = ["OWN", "SPECS", "ref_code"]

_OWN = (kafka.SPEC, postgres.SPEC, mongo.SPEC, http.SPEC, redis.SPEC, filesystem.SPEC, sqlite.SPEC)
OWN: Final[Mapping[str, SinkSpec]] = {spec.kind: spec for spec in _OWN}
"""Specs of the library's kinds by their kind, the name under `sinks` in the configuration."""


class _Specs(Mapping[str, SinkSpec]):
    """Specs by kind; those of plug-ins are looked up on access, for a program may add some."""

    def __getitem__(self, kind: str) -> SinkSpec:
        return OWN[kind] if kind in OWN else SINKS.usable()[kind]

    def __iter__(self) -> Iterator[str]:
        yield from OWN
        yield from SINKS.usable()

    def __len__(self) -> int:
        return len(OWN) + len(SINKS.usable())


SPECS: Final[Mapping[str, SinkSpec]] = _Specs()
"""Specs by their kind, those of plug-ins included."""


def ref_code(kind: str, name: str) -> str:
    """Return the code that names a sink in a route.

    >>> ref_code("kafka", "out"), ref_code("csv", "report")
    ("KafkaSink('out')", "CustomSink('csv', 'report')")
    """
    return f"{kind.capitalize()}Sink({name!r})" if kind in OWN else f"CustomSink({kind!r}, {name!r})"
