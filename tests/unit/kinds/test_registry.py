"""The registry of plug-ins: what is usable, and what is wrong with the others."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.errors import FlowArgumentError
from drakkar_flow.kinds.registry import Registry
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.payload import CustomPayload
from drakkar_flow.model.record import Record
from support.names import unique
from support.packages import CSV_SINK, package


class Settings(SinkConfig):
    """A sink's settings."""


class Others(SinkConfig):
    """Another sink's settings."""


SPEC = SinkSpec("csv", Settings, make=lambda name, settings: None)  # type: ignore[arg-type,return-value]  # it makes nothing


def registry() -> Registry[SinkSpec]:
    """One of its own, as the library's are."""
    return Registry(unique("drakkar_flow.test"), SinkSpec)


def installed(monkeypatch: pytest.MonkeyPatch, directory: Path, **packages: tuple[str, str, str]) -> Registry[SinkSpec]:
    """A registry with packages of one entry point each: (source, kind, name of the spec)."""
    plugins = registry()
    for name, (source, kind, value) in packages.items():
        package(directory, name, source, **{plugins.group.replace(".", "__"): {kind: f"{name}:{value}"}})
    monkeypatch.syspath_prepend(directory)
    monkeypatch.setattr("drakkar_flow.kinds.registry._installed", entry_points)  # which is looked at once
    return plugins


def test_an_installed_package_brings_a_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By an entry point that is called like it."""
    plugins = installed(monkeypatch, tmp_path, good_csv=(CSV_SINK, "csv", "SPEC"))
    assert plugins.broken() == {}
    assert list(plugins.usable()) == ["csv"]


@pytest.mark.parametrize(
    ("source", "kind", "value", "wrong"),
    [
        ("import nowhere_to_be_found", "csv", "SPEC", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(3)", "csv", "SPEC", "can't be imported: SystemExit: 3"),
        ("", "csv", "SPEC", "AttributeError"),
        ("SPEC = 3", "csv", "SPEC", "'csv' is a int, expected a SinkSpec"),
        (CSV_SINK, "tsv", "SPEC", "the entry point has the name 'tsv', its SinkSpec the kind 'csv'"),
        (CSV_SINK, "csv", "CsvSink", "'csv' is a type, expected a SinkSpec"),
    ],
)
def test_a_broken_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, kind: str, value: str, wrong: str
) -> None:
    """With its version and the reason; nothing is raised."""
    plugins = installed(monkeypatch, tmp_path, **{unique("bad").replace("-", "_"): (source, kind, value)})
    assert plugins.usable() == {}
    (problem,) = plugins.broken().values()
    assert problem.where.startswith("package bad")
    assert problem.where.endswith(" 1.0")
    assert wrong in problem.what


def test_two_packages_of_one_kind_are_both_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither is chosen."""
    plugins = installed(monkeypatch, tmp_path, one_csv=(CSV_SINK, "csv", "SPEC"), two_csv=(CSV_SINK, "csv", "SPEC"))
    assert plugins.usable() == {}
    assert str(plugins.broken()["csv"]).startswith("package one_csv 1.0 and package two_csv 1.0: both define the kind")


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        (replace(SPEC, api=2), "version 2 of the plug-in interface, supported is version 1"),
        (replace(SPEC, kind="kafka"), "the kind 'kafka' is reserved"),
        (replace(SPEC, kind="C.S.V"), "invalid kind 'C.S.V': use a-z, 0-9 and _"),
        (replace(SPEC, settings_type=BaseModel), "BaseModel lacks circuit_breaker, delivery_timeout_s, retry"),
        (replace(SPEC, settings_type=dict), "settings_type is not a pydantic model"),  # type: ignore[arg-type]  # wrong on purpose
        (replace(SPEC, payload_type=dict), "payload_type is not a payload class"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_a_spec_that_does_not_fit_is_not_usable(spec: SinkSpec, wrong: str) -> None:
    """Though it was made by a program."""
    plugins = registry()
    plugins.reserve(["kafka"])
    plugins.add(spec)
    assert plugins.usable() == {}
    assert wrong in plugins.broken()[spec.kind].what


def test_a_module_that_is_loaded_again_replaces_its_spec() -> None:
    """A spec from elsewhere with the same kind is refused."""
    plugins = registry()
    plugins.add(SPEC)
    again = replace(SPEC, max_batch=1)
    plugins.add(again)
    assert plugins.usable()["csv"] is again
    plugins.add(replace(SPEC, settings_type=Others))
    assert "both define the kind 'csv'" in plugins.broken()["csv"].what


def test_something_else_is_refused_at_once() -> None:
    """Where the program adds it."""
    with pytest.raises(FlowArgumentError, match="expected a SinkSpec, got"):
        registry().add(SPEC.settings_type)  # type: ignore[arg-type]  # wrong on purpose


def test_values_become_custom_payloads() -> None:
    """Where a spec says nothing else."""
    record: Any = Record(topic="in", partition=0, offset=0)
    payload = SPEC.wrap({"a": 1}, record, "out", None)
    assert (type(payload), payload.sink, payload.data) == (CustomPayload, "out", {"a": 1})
