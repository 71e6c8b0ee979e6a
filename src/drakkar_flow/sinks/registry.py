"""Every kind of sink there is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from drakkar_flow.config.sinks import SinksConfig
from drakkar_flow.errors import Problem
from drakkar_flow.sinks import files, kafka, sqlite
from drakkar_flow.sinks.base import SinkSpec

__all__ = ["SPECS", "no_such_kind", "without_spec"]

SPECS: Mapping[str, SinkSpec] = MappingProxyType({spec.kind: spec for spec in (kafka.SPEC, files.SPEC, sqlite.SPEC)})
"""The specs by their kind, the name under `sinks` in the configuration."""


def without_spec(sinks: SinksConfig) -> list[Problem]:
    """A problem for each configured sink of a kind that has a section already, but no spec."""
    return [
        no_such_kind(kind, name)
        for kind, named in sinks
        if isinstance(named, dict) and kind not in SPECS
        for name in named
    ]


def no_such_kind(kind: str, name: str) -> Problem:
    """What to say of a sink whose kind has no spec."""
    known = kind in SinksConfig.model_fields
    what = "this version can't write there yet" if known else f"there is no kind of sink {kind!r}"
    return Problem(f"sinks.{kind}.{name}", what, f"the kinds are: {', '.join(sorted(SPECS))}")
