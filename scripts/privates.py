"""Ratchet on private names in tests: the number of uses in each file may fall and never rise.

`scripts/privates.txt` lists the files that have any, each with its number; `--lower` writes lower numbers down.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

LIST = Path(__file__).with_suffix(".txt")
OURS = ("drakkar_flow", "examples", "flows", "scripts", "support")
BY_NAME = {"delattr", "getattr", "hasattr", "setattr"}
"""Calls that name an attribute in a string, also as methods: `monkeypatch.setattr`."""
OF_NAMED_TUPLES = {"_asdict", "_fields", "_field_defaults", "_make", "_replace"}
"""Public, though they look private."""


def uses(source: str) -> Iterator[tuple[int, str]]:
    """The line and name of each use of a private name that is not the test's own.

    Uses are `x._name` unless x is `self`, `cls` or an import from outside the project, imports of `_name`,
    and calls like `setattr(x, "_name", ...)` or `monkeypatch.setattr("drakkar_flow.x._name", ...)`.

    Example:
        >>> list(uses("import os\\nfrom drakkar_flow.a import _b\\nc._d = self._e = os._exit"))
        [(2, '_b'), (3, '_d')]
    """
    tree = ast.parse(source)
    foreign = {"self", "cls"} | set(_foreign_imports(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner)) if owner in foreign:
                continue
            case ast.Attribute(attr=name) if _private(name):
                yield node.lineno, name
            case ast.ImportFrom(names=names):
                yield from ((node.lineno, each.name) for each in names if _private(each.name))
            case ast.Call(args=[ast.Name(id=owner), *_]) if owner in foreign:
                continue
            case ast.Call() if _private(name := _named_in_string(node)):
                yield node.lineno, name


def _foreign_imports(tree: ast.Module) -> Iterator[str]:
    """The names that a module imports from outside the project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = node.module or "" if isinstance(node, ast.ImportFrom) else None
            for each in node.names:
                if (origin or each.name).partition(".")[0] not in OURS:
                    yield each.asname or each.name.partition(".")[0]


def _named_in_string(call: ast.Call) -> str:
    """The attribute that a call names in a string, or nothing."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if called not in BY_NAME:
        return ""
    texts = (each.value for each in call.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str))
    return next(texts, "").rpartition(".")[2]


def _private(name: str) -> bool:
    return name.startswith("_") and name != "_" and not name.endswith("__") and name not in OF_NAMED_TUPLES


def findings(found: Mapping[str, list[str]], allowed: Mapping[str, int]) -> Iterator[str]:
    """What differs from the list.

    Args:
        found: each file's uses, as `line: name`.
        allowed: each file's number in the list.

    Example:
        >>> list(findings({"a.py": ["7: _x"]}, {}))
        ['a.py: 1 use of private names, 0 allowed: 7: _x']
        >>> list(findings({}, {"a.py": 1}))
        ['a.py: 0 uses of private names, 1 allowed: lower the list with python -m scripts.privates --lower']
    """
    for name in sorted(found.keys() | allowed.keys()):
        there, limit = found.get(name, []), allowed.get(name, 0)
        text = f"{name}: {len(there)} use{'s' * (len(there) != 1)} of private names, {limit} allowed"
        if len(there) > limit:
            yield f"{text}: {', '.join(there)}"
        elif len(there) < limit:
            yield f"{text}: lower the list with python -m scripts.privates --lower"


def lowered(found: Mapping[str, list[str]], allowed: Mapping[str, int]) -> dict[str, int]:
    """The list with each number as low as it may be; a file whose number has risen keeps its old one.

    Example:
        >>> lowered({"a.py": ["1: _x"], "b.py": ["1: _x"]}, {"a.py": 2, "gone.py": 3})
        {'a.py': 1}
    """
    lower = {name: min(limit, len(found.get(name, []))) for name, limit in allowed.items()}
    return {name: limit for name, limit in lower.items() if limit}


def tracked() -> list[Path]:
    """The test files that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z", "tests/*.py"], capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name and Path(name).exists()]


def main(arguments: list[str]) -> int:
    """Print every finding; 1 if there is any."""
    all_uses = {str(path): [f"{line}: {name}" for line, name in uses(path.read_text())] for path in tracked()}
    found = {name: there for name, there in all_uses.items() if there}
    allowed = {name: int(count) for count, name in (line.split() for line in LIST.read_text().splitlines())}
    if "--lower" in arguments:
        allowed = lowered(found, allowed)
        LIST.write_text("".join(f"{count:3} {name}\n" for name, count in sorted(allowed.items())))
    wrong = list(findings(found, allowed))
    print("\n".join(wrong) or f"Private names in tests: {sum(allowed.values())} uses, none added.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
