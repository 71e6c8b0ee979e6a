"""The table of configuration keys in the page about migrating says what the schema and the table of former keys say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drakkar_flow.config.loading.legacy_keys import LEGACY_KEYS, Ignored, Moved
from drakkar_flow.config.schema import field_at, mark_of, type_at

PAGE = Path(__file__).parents[3] / "docs" / "migrating-from-py-drakkar.md"
YAMLS = Path(__file__).parent / "yamls"


def rows() -> dict[str, tuple[str, str, str]]:
    """Where each key stands here, the verdict, and why; names a user chooses are `*`."""
    table = PAGE.read_text().partition("| Key | Since |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    keys = [cell[0].strip("`").replace("<name>", "*").replace("<kind>", "*") for cell in cells]
    assert len(set(keys)) == len(keys)
    return {
        key: (cell[2].strip("`").replace("<name>", "*").replace("<kind>", "*"), cell[3], cell[4])
        for key, cell in zip(keys, cells, strict=True)
    }


ROWS = rows()


def has_no_effect(key: str) -> bool:
    """Whether the schema marks a key, or a section around it, as without effect."""
    path = tuple(key.split("."))
    return any(mark_of(field_at(path[:end])) for end in range(1, len(path) + 1))


def expected(key: str) -> tuple[str, set[str]]:
    """Where a key stands, and the verdicts that are true of it."""
    fate = LEGACY_KEYS.get(key)
    if fate is None:
        return key, {"no effect"} if has_no_effect(key) else {"same", "better", "changed"}
    if isinstance(fate, Moved):
        return fate.to, {"no effect"} if has_no_effect(fate.to) else {"changed"}
    return "", {"no effect"} if isinstance(fate, Ignored) else {"not there"}


@pytest.mark.parametrize("key", ROWS)
def test_a_row_is_true(key: str) -> None:
    """The key is known, and here it is what the row says."""
    place, verdicts = expected(key)
    here, verdict, why = ROWS[key]
    assert here == place
    assert verdict in verdicts
    assert place in ("", "sinks.*") or type_at(tuple(place.split("."))) is not None
    assert why or verdict == "same"


def test_every_former_key_has_a_row() -> None:
    """None is forgotten."""
    assert set(LEGACY_KEYS) <= set(ROWS)


def keys_of(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of the values of a file."""
    if not isinstance(tree, dict) or not tree:
        yield path
        return
    for key, value in tree.items():
        yield from keys_of(value, (*path, "*" if len(path) == 2 and path[0] == "sinks" and path[1] in KINDS else key))


KINDS = ("kafka", "postgres", "mongo", "http", "redis", "filesystem")


@pytest.mark.parametrize("version", ["0.9.2", "0.11", "2.4"])
def test_every_key_of_a_complete_configuration_has_a_row(version: str) -> None:
    """It or a section around it."""
    tree = yaml.safe_load((YAMLS / f"py-drakkar-{version}.yaml").read_text())
    known = {*ROWS, *(key.removesuffix(".*") for key in ROWS)}
    missing = [
        ".".join(path)
        for path in keys_of(tree)
        if not any(".".join(path[:end]) in known for end in range(1, len(path) + 1))
    ]
    assert missing == []
