"""Ceilings on the size of modules and functions."""

from __future__ import annotations

import pytest

from scripts.ceilings import FUNCTION_LINES, MODULE_LINES, MODULE_LINES_AT_MOST, Finding, findings

FUNCTION = "def f():\n" + "    f()\n" * 9
EVENT = "class Event:\n    name: str = ''\n"


def code(lines: int) -> str:
    return FUNCTION * (lines // 10) + "f()\n" * (lines % 10)


@pytest.mark.parametrize(
    ("lines", "errors"),
    [
        (MODULE_LINES, []),
        (MODULE_LINES + 1, [False]),
        (MODULE_LINES_AT_MOST, [False]),
        (MODULE_LINES_AT_MOST + 1, [True]),
    ],
)
def test_a_long_module_is_a_warning_and_a_very_long_one_an_error(lines: int, errors: list[bool]) -> None:
    assert [finding.is_error for finding in findings("m.py", code(lines))] == errors


@pytest.mark.parametrize("data", ["NAMES = {\n" + "    'a': 1,\n" * 900 + "}\n", EVENT * 450])
def test_a_module_of_data_may_be_long(data: str) -> None:
    assert list(findings("m.py", data + FUNCTION)) == []


def test_a_table_does_not_excuse_much_code() -> None:
    (finding,) = findings("m.py", EVENT * 200 + code(210))
    assert finding.is_error


def test_methods_count_as_code() -> None:
    method = "    def f(self):\n" + "        self.f()\n" * 9
    assert len(list(findings("m.py", "class C:\n" + method * 41))) == 1


def test_a_long_function_is_an_error_wherever_it_stands() -> None:
    source = "class C:\n    async def f(self):\n" + "        await self.f()\n" * FUNCTION_LINES
    assert list(findings("m.py", source)) == [Finding("m.py:2: f has 51 lines, 50 are allowed", is_error=True)]
