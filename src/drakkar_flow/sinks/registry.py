"""Every kind of sink there is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from drakkar_flow.sinks import files, http, kafka, mongo, postgres, redis, sqlite
from drakkar_flow.sinks.base import SinkSpec

__all__ = ["SPECS"]

_SPECS = (kafka.SPEC, postgres.SPEC, mongo.SPEC, http.SPEC, redis.SPEC, files.SPEC, sqlite.SPEC)

SPECS: Mapping[str, SinkSpec] = MappingProxyType({spec.kind: spec for spec in _SPECS})
"""The specs by their kind, the name under `sinks` in the configuration."""
