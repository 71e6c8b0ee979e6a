"""Hold the ceilings on size: no module over 400 lines, no function over 50, in all Python that git knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 400
FUNCTION_LINES = 50


def findings(name: str, source: str) -> Iterator[str]:
    """What is too long in one module.

    Example:
        >>> list(findings("long.py", "def f():\\n" + "    f()\\n" * 50))
        ['long.py:1: f has 51 lines, 50 are allowed']
    """
    length = len(source.splitlines())
    if length > MODULE_LINES:
        yield f"{name}: the module has {length} lines, {MODULE_LINES} are allowed"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES} are allowed"


def main() -> int:
    """Print every finding; 1 if there is any."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], capture_output=True, text=True, check=True).stdout
    paths = [Path(name) for name in listed.split("\0") if name]
    found = [line for path in paths if path.exists() for line in findings(str(path), path.read_text())]
    print("\n".join(found) or "Ceilings: 0 findings.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
