"""The page on sinks says what the code says: fields, operations, settings, types."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import msgspec
import pytest

import drakkar_flow
from conformance.test_postgres_values import TAKEN
from drakkar_flow import load_config
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.sinks.registry import OWN

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sinks.md").read_text()
SETTINGS = (ROOT / "docs" / "configuration.md").read_text()
TITLES = {
    "kafka": "Kafka",
    "postgres": "PostgreSQL",
    "mongo": "MongoDB",
    "redis": "Redis",
    "http": "HTTP",
    "filesystem": "Files",
    "sqlite": "SQLite",
}
OTHER_TYPES = {"macaddr8": "macaddr", "varbit": "bit", "bpchar": "char", "point": "text", "polygon": "text"}


def section(title: str) -> str:
    """A section of the page."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize("spec", OWN.values(), ids=lambda spec: spec.kind)
def test_every_kind_has_its_section(spec: SinkSpec) -> None:
    """It links to the settings, names every field of the payload, and has the docstring's tables."""
    text = section(TITLES[spec.kind])
    anchor = f"sinks{spec.kind}name"
    assert f"configuration.md#{anchor}" in text
    assert f"## `sinks.{spec.kind}.<name>`" in SETTINGS

    docstring = inspect.getdoc(spec.payload_type) or ""
    tables = [line for line in docstring.replace("\\\n", "").splitlines() if line.startswith("|")]
    assert [line for line in tables if line not in text] == []
    fields = {field.name for field in msgspec.structs.fields(spec.payload_type)} - {"sink"}
    assert {name for name in fields if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("kind", OWN)
def test_the_first_table_names_function_and_payload(kind: str) -> None:
    """Both can be imported from the package."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| [`{kind}`](#")]
    _, _, functions, payload, _, _ = row.split("|")
    for name in re.findall(r"\w+", functions):
        assert getattr(drakkar_flow, name)("main").kind == kind
    assert getattr(drakkar_flow, payload.strip(" `")) is OWN[kind].payload_type


def test_the_table_of_columns_names_every_type_that_is_tested() -> None:
    """Those of the schema under test count as what they are."""
    rows = section("PostgreSQL").split("| Type | Takes | Refuses |")[1]
    named = " ".join(line.split("|")[1] for line in rows.splitlines() if line.startswith("|"))
    tested = {re.sub(r"\(.*|\[\]", "", declared) for declared, _, _ in TAKEN if not declared.startswith("{0}")}
    tested = {name for name in tested if not name.endswith("range")}
    assert {name for name in tested if f"`{OTHER_TYPES.get(name, name)}`" not in named} == set()


def test_the_settings_on_the_page_load(tmp_path: Path) -> None:
    """Each YAML block by itself."""
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) >= 3
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load_config(file, environ={})
