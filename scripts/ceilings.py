"""Ceilings on size, in all Python that git knows.

A module over 400 lines is a warning, one over 600 an error; a module that is mostly data (tables, specs, events) may
have any length. A function over 50 lines is an error.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MODULE_LINES = 400
MODULE_LINES_AT_MOST = 600
FUNCTION_LINES = 50
DATA_SHARE = 0.2
"""A module is data when its functions have less than this share of its lines."""


class Finding(NamedTuple):
    """What is too long; `is_error` unless it is only a warning."""

    text: str
    is_error: bool


def findings(name: str, source: str) -> Iterator[Finding]:
    """What is too long in one module.

    >>> [finding.text for finding in findings("long.py", "def f():\\n" + "    f()\\n" * 50)]
    ['long.py:1: f has 51 lines, 50 are allowed']
    """
    length = len(source.splitlines())
    tree = ast.parse(source)
    if length > MODULE_LINES and not is_data(tree, length):
        is_error = length > MODULE_LINES_AT_MOST
        advice = f"{MODULE_LINES_AT_MOST} are allowed" if is_error else f"split it before it has {MODULE_LINES_AT_MOST}"
        yield Finding(f"{name}: the module has {length} lines, {advice}", is_error)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > FUNCTION_LINES:
            text = f"{name}:{node.lineno}: {node.name} has {lines_of(node)} lines, {FUNCTION_LINES} are allowed"
            yield Finding(text, is_error=True)


def is_data(tree: ast.Module, length: int) -> bool:
    """Whether a module is mostly data.

    >>> is_data(ast.parse("TABLE = {\\n" + "'a': 1,\\n" * 9 + "}\\ndef get(name):\\n    return TABLE[name]"), 13)
    True
    """
    blocks: list[ast.stmt] = list(tree.body)
    functions = 0
    while blocks:
        node = blocks.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += lines_of(node)
        elif isinstance(node, ast.ClassDef):
            blocks += node.body
    return functions < DATA_SHARE * length


def lines_of(node: ast.stmt) -> int:
    """The lines of a statement, decorators not counted."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def main() -> int:
    """Print every finding; 1 if there is an error."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], capture_output=True, text=True, check=True).stdout
    paths = [Path(name) for name in listed.split("\0") if name]
    found = [each for path in paths if path.exists() for each in findings(str(path), path.read_text())]
    for text, is_error in found:
        print(f"{'error' if is_error else 'warning'}: {text}")
    errors = sum(each.is_error for each in found)
    print(f"Ceilings: {errors} errors, {len(found) - errors} warnings.")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
