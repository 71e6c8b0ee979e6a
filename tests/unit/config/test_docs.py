"""The reference pages in docs/ say what the schema says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from drakkar_flow.config.docs import json_schema, markdown

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("name", "command", "render"),
    [("configuration.md", "docs", markdown), ("config.schema.json", "schema", json_schema)],
)
def test_the_page_is_up_to_date(name: str, command: str, render: Callable[[], str]) -> None:
    """Regenerate it with the command after a change of the schema."""
    assert (DOCS / name).read_text() == render(), f"run: drakkar-flow config {command} > docs/{name}"


def test_every_key_is_described() -> None:
    """A key without a docstring would be a blank row."""
    blank = [row for row in markdown().splitlines() if row.startswith("| `") and row.endswith("|  |")]
    assert blank == []


def test_the_texts_are_in_the_schema_too() -> None:
    """Editors show them beside the keys, of sections as of values."""
    schema = json.loads(json_schema())
    assert schema["properties"]["runtime"]["description"] == "Bounds and rhythms of the running flow."
    assert schema["$defs"]["KafkaConfig"]["properties"]["brokers"]["description"]


def test_the_page_tells_type_bounds_default_and_unit() -> None:
    """One row of each kind."""
    rows = markdown().splitlines()
    assert any(row.startswith("| `commit_interval_s` | number, > 0 | `0.5` | seconds | ") for row in rows)
    assert any(row.startswith("| `drain_timeout_s` | number or null, > 0 | `null` | seconds | ") for row in rows)
    assert any(row.startswith('| `format` | `auto` or `json` or `console` | `"auto"` |  | ') for row in rows)
    assert any(row.startswith("| `topic` | text | required |  | ") for row in rows)
    assert "## `sinks.kafka.<name>`" in rows


def test_the_schema_refuses_unknown_keys_and_hides_secrets() -> None:
    """Editors flag what we would flag."""
    schema = json.loads(json_schema())
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["KafkaSecurityConfig"]["properties"]["sasl_password"]["writeOnly"] is True
