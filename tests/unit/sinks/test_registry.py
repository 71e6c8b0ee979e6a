"""The registry knows every kind of sink, by configuration key and by payload."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from drakkar_flow.config.sections.sinks import SinksConfig
from drakkar_flow.model.payload import CollectResult
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.registry import OWN


def test_every_configured_kind_has_a_spec() -> None:
    """The keys under `sinks` and the registry agree, down to the settings' types."""
    annotations = {
        name: kinds[1]
        for name, field in SinksConfig.model_fields.items()
        if len(kinds := get_args(field.annotation)) == 2
    }

    assert {kind: spec.settings_type for kind, spec in OWN.items()} == annotations


def test_every_sink_takes_the_payloads_of_its_list_in_a_result() -> None:
    """The list has the kind's name, so no two kinds take the same payloads."""
    lists = {name: get_args(hint)[0] for name, hint in get_type_hints(CollectResult).items()}
    lists["filesystem"] = lists.pop("files")

    assert {kind: spec.payload_type for kind, spec in OWN.items()}.items() <= lists.items()


@pytest.mark.parametrize("kind", sorted(OWN))
def test_plain_values_are_wrapped(kind: str) -> None:
    """A flow may route plain values: they get the sink's name, and the record's key where there are keys."""
    record = Record(topic="in", partition=0, offset=0, key=b"k")
    payload: Any = OWN[kind].wrap({"a": 1}, record, "main", None)

    assert (payload.data, payload.sink) == ({"a": 1}, "main")
    assert getattr(payload, "key", b"k") in (b"k", "k")
    assert type(payload) is OWN[kind].payload_type
