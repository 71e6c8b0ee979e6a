"""The ratchet on private names in tests: what counts as a use, and that numbers only fall."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import privates
from scripts.privates import main, uses


@pytest.mark.parametrize(
    "source",
    [
        "x._name",
        "x.y()._name",
        "x._name = 1",
        "from drakkar_flow.a import _name",
        "from support.a import _name as name",
        "from drakkar_flow import a\na._name",
        "from drakkar_flow.a import A\nA._name",
        "import drakkar_flow.a\ndrakkar_flow.a._name",
        "setattr(x, '_name', 1)",
        "getattr(x, '_name')",
        "monkeypatch.setattr(x, '_name', 1)",
        "monkeypatch.setattr('drakkar_flow.a._name', 1)",
    ],
)
def test_a_use_of_a_private_name_counts(source: str) -> None:
    """However it is written."""
    assert [name for _, name in uses(source)] == ["_name"]


@pytest.mark.parametrize(
    "source",
    [
        "self._name",
        "cls._name",
        "_name = 1",
        "x.__class__",
        "x._replace(a=1)",
        "import os\nos._exit(1)",
        "from confluent_kafka import KafkaError\nKafkaError._PARTITION_EOF",
        "import sys\ngetattr(sys, '_name')",
        "getattr(x, 'name')",
        "print('_name')",
    ],
)
def test_what_is_the_tests_own_or_of_another_library_does_not_count(source: str) -> None:
    """Nor do names that are public though they look private."""
    assert not list(uses(source))


@pytest.fixture
def ratchet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of numbers for a repository in which one test file has two uses."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("a._b\na._c\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(privates, "LIST", tmp_path / "privates.txt")
    monkeypatch.setattr(privates, "tracked", lambda: [Path("tests/test_a.py")])
    return tmp_path / "privates.txt"


@pytest.mark.parametrize(("listed", "status"), [(1, 1), (2, 0), (3, 1)])
def test_the_number_is_held_exactly(
    ratchet: Path, capsys: pytest.CaptureFixture[str], listed: int, status: int
) -> None:
    """A rise fails, and a fall asks to be written down."""
    ratchet.write_text(f"{listed} tests/test_a.py\n")
    assert main([]) == status
    printed = capsys.readouterr().out
    assert ("1: _b, 2: _c" in printed) == (listed == 1)
    assert ("--lower" in printed) == (listed == 3)


def test_a_fall_is_written_down_and_a_rise_is_not(ratchet: Path) -> None:
    """A file without uses leaves the list."""
    ratchet.write_text("3 tests/test_a.py\n1 tests/test_gone.py\n")
    assert main(["--lower"]) == 0
    assert ratchet.read_text().split() == ["2", "tests/test_a.py"]
    ratchet.write_text("1 tests/test_a.py\n")
    assert main(["--lower"]) == 1
    assert ratchet.read_text().split() == ["1", "tests/test_a.py"]
