"""The page on troubleshooting names lines, metrics and keys that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "troubleshooting.md").read_text()


def rows() -> list[list[str]]:
    """The cells of its tables, without heads."""
    lines = [
        line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| Symptom"))
    ]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_row_is_whole_and_its_line_exists(row: list[str]) -> None:
    """Symptom, line, cause, remedy; a name of a line or metric stands in docs/observability.md or executors.md."""
    assert len(row) == 4
    assert all(row)
    known = (DOCS / "observability.md").read_text() + (DOCS / "executors.md").read_text()
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", row[1]):
        assert name in known, name


def test_the_keys_of_the_remedies_exist() -> None:
    """Sections and keys as docs/configuration.md has them."""
    configuration = (DOCS / "configuration.md").read_text()
    keys = re.findall(r"`(?:executor|runtime|dlq|metrics|kafka|sinks)\.([a-z_.]+)(?::[^`]*)?`", PAGE)
    assert keys
    for key in keys:
        assert f"`{key.split('.')[-1]}`" in configuration, key
