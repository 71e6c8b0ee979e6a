"""Every kind of sink: the library's own and those of plug-ins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from drakkar_flow.kinds.registry import SINKS
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.sinks import files, http, kafka, mongo, postgres, redis, sqlite

__all__ = ["OWN", "SPECS"]

_OWN = (kafka.SPEC, postgres.SPEC, mongo.SPEC, http.SPEC, redis.SPEC, files.SPEC, sqlite.SPEC)
OWN: Final[Mapping[str, SinkSpec]] = {spec.kind: spec for spec in _OWN}
"""The specs of the library's own kinds by their kind, the name under `sinks` in the configuration."""


class _Specs(Mapping[str, SinkSpec]):
    """The specs by kind; those of plug-ins are looked up when they are asked for, for a program may add some."""

    def __getitem__(self, kind: str) -> SinkSpec:
        return OWN[kind] if kind in OWN else SINKS.usable()[kind]

    def __iter__(self) -> Iterator[str]:
        yield from OWN
        yield from SINKS.usable()

    def __len__(self) -> int:
        return len(OWN) + len(SINKS.usable())


SPECS: Final[Mapping[str, SinkSpec]] = _Specs()
"""The specs by their kind, those of plug-ins included."""
