"""What a type checker says to users: right calls pass, wrong ones are refused where they stand.

The modules beside this one are read by mypy, not run. A line that must be refused ends with the codes
of its errors: `# E: arg-type`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CASES = sorted(path for path in HERE.glob("*.py") if not path.name.startswith("test_"))
EXPECTED = re.compile(r"# E: ([a-z-]+(?:, [a-z-]+)*)")
FOUND = re.compile(r"^(?P<path>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")

Errors = set[tuple[int, str]]


pytestmark = pytest.mark.xdist_group("typing")


@pytest.fixture(scope="module")
def said() -> dict[str, Errors]:
    """The errors of one mypy run over all cases, by file."""
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary", "--hide-error-context"]
    run = subprocess.run([*command, *map(str, CASES)], cwd=ROOT, capture_output=True, text=True, timeout=100)
    errors: dict[str, Errors] = {path.name: set() for path in CASES}
    for line in run.stdout.splitlines():
        found = FOUND.match(line)
        assert found or ": note: " in line, f"mypy says: {line}"
        if found:
            errors[Path(found["path"]).name].add((int(found["line"]), found["code"]))
    assert not run.stderr
    return errors


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_wrong_calls_are_refused_and_right_ones_are_not(path: Path, said: dict[str, Errors]):
    """Each error at its line with its code, and no other."""
    lines = path.read_text().splitlines()
    expected = {
        (number, code)
        for number, line in enumerate(lines, start=1)
        if (marked := EXPECTED.search(line))
        for code in marked[1].split(", ")
    }
    assert expected
    assert said[path.name] == expected
