"""The public interface: its signatures are written down, its page is what the docstrings say.

A change is a decision:

    .venv/bin/python -m scripts.api signatures > tests/unit/contract/signatures.txt
    .venv/bin/python -m scripts.api > docs/api.md
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from scripts.api import MODULES, page, signatures

ROOT = Path(__file__).parents[3]


def test_the_public_signatures_are_written_down() -> None:
    """Parameters, fields, defaults, methods."""
    assert signatures().splitlines() == Path(__file__).with_name("signatures.txt").read_text().splitlines()


def test_the_page_is_up_to_date() -> None:
    """It is made of the docstrings."""
    assert page().splitlines() == (ROOT / "docs" / "api.md").read_text().splitlines()


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    """Classes and functions; the module has one too."""
    found = import_module(module)
    assert found.__doc__
    values = {name: getattr(found, name) for name in found.__all__}
    described = {name: value for name, value in values.items() if inspect.isclass(value) or inspect.isroutine(value)}
    assert [name for name, value in described.items() if not value.__doc__] == []
