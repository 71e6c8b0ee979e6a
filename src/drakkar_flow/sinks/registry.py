"""Every kind of sink there is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from drakkar_flow.errors import RoutingError
from drakkar_flow.sinks import files, kafka, sqlite
from drakkar_flow.sinks.base import SinkSpec

__all__ = ["SPECS", "spec_for"]

SPECS: Mapping[str, SinkSpec] = MappingProxyType({spec.kind: spec for spec in (kafka.SPEC, files.SPEC, sqlite.SPEC)})
"""The specs by their kind, the name under `sinks` in the configuration."""

_BY_PAYLOAD = {spec.payload_type: spec for spec in SPECS.values()}


def spec_for(payload_type: type) -> SinkSpec:
    """Find the kind of sink that takes a type of payload.

    >>> from drakkar_flow.model.payload import FilePayload
    >>> spec_for(FilePayload).kind
    'filesystem'

    Raises:
        RoutingError: no sink takes it.
    """
    for each in payload_type.__mro__:
        if each in _BY_PAYLOAD:
            return _BY_PAYLOAD[each]
    known = ", ".join(sorted(each.__name__ for each in _BY_PAYLOAD))
    raise RoutingError(f"no sink takes a {payload_type.__name__}; there are {known}")
