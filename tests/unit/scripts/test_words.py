"""The check of the language finds banned words where readers see them, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.words import BANNED, TODO, checked, findings, report

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is told.", ["told"]),
        ("A process of\nits own.", ["of its own"]),
        ("Dead letters, dead\nletters, dead-letter topic, lower case letters.", []),
        ("The letters of a topic.", ["letters"]),
        ("The fix for what is missing.", ["what is"]),
        ("The report says what is wrong.", []),
        ("`told` and [text](page.md#what-is-told) and https://host/told are names.", []),
        ("```\nit is told\n```\n", []),
        ("Golden lanes.", ["lanes"]),
        ("Plane, foretold, amend.", []),
    ],
)
def test_a_page_is_checked_without_its_code(text: str, found: list[str]) -> None:
    """Each finding names the words as they stand."""
    assert [line.split("'")[1] for line in findings("docs/page.md", text)] == found


def test_a_finding_names_the_line_and_the_word_to_use() -> None:
    """Also behind a code block."""
    assert findings("README.md", "a\n```\nb\n```\nMend it.") == ["README.md:5: 'Mend': write fix"]


def test_only_the_unreleased_part_of_the_changelog_is_checked() -> None:
    """Released entries stay as they were."""
    text = "## [Unreleased]\n- told\n## [0.1.0]\n- told\n"
    assert [line.split(":")[1] for line in findings("CHANGELOG.md", text)] == ["2"]


def test_docstrings_texts_and_comments_of_a_module_are_checked() -> None:
    """Names are not, nor words that are no sentence."""
    source = 'told = {"told": 1}\n\n\ndef f():\n    """Whether it works."""\n    raise ValueError("mend it")  # anew\n'
    assert findings("src/module.py", source) == [
        "src/module.py:5: a docstring begins with 'Whether': begin with the noun",
        "src/module.py:6: 'anew': write again, or new",
        "src/module.py:6: 'mend': write fix",
    ]


def test_generated_pages_tests_and_data_are_not_checked() -> None:
    """A generated page is checked where its texts stand."""
    names = ["docs/configuration.md", "docs/sinks.md", "src/a.py", "src/a.json", "tests/test_a.py", "flows/a.yaml"]
    assert checked(names) == ["docs/sinks.md", "src/a.py", "flows/a.yaml"]


def test_the_list_of_unclean_files_only_shrinks() -> None:
    """A listed file or directory may have findings; one that is clean or gone must leave the list."""
    files = {"a.md": ["a.md:1: 'told'"], "b.md": ["b.md:1: 'told'"], "c.md": [], "src/d.py": ["src/d.py:1: 'told'"]}
    assert list(report(files, ["b.md", "src/", "c.md", "gone.md", "docs/"])) == [
        "a.md:1: 'told'",
        f"{TODO}: c.md is clean or gone: remove it",
        f"{TODO}: gone.md is clean or gone: remove it",
        f"{TODO}: docs/ is clean or gone: remove it",
    ]


def test_every_banned_word_has_a_replacement() -> None:
    """A finding without one would only annoy."""
    assert [banned for banned, instead in BANNED.items() if not instead] == []


def test_the_command_checks_the_given_files(tmp_path: Path) -> None:
    """It ends with 1 and prints the findings, whether they are listed or not."""
    page = tmp_path / "page.md"
    page.write_text("It is told.\n")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.words", str(page)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.startswith(f"{page}:1: 'told'")) == (1, True)
