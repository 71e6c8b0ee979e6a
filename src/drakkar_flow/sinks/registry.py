"""Every kind of sink there is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from drakkar_flow.sinks import files, kafka, sqlite
from drakkar_flow.sinks.base import SinkSpec

__all__ = ["SPECS"]

SPECS: Mapping[str, SinkSpec] = MappingProxyType({spec.kind: spec for spec in (kafka.SPEC, files.SPEC, sqlite.SPEC)})
"""The specs by their kind, the name under `sinks` in the configuration."""
