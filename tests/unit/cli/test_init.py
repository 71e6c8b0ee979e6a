"""`drakkar-flow init`: the project it writes is whole, and nothing of yours is lost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from drakkar_flow.cli.init import Style, project
from drakkar_flow.cli.main import main
from drakkar_flow.config.loading.load import from_mapping, load

FILES = ["README.md", "pipeline.py", "pipeline.test.yaml", "pipeline.yaml", "test_word_count.py"]


def run(*arguments: str | Path) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def python(*arguments: str | Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """A Python of its own in the project's directory."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=directory, capture_output=True, text=True)


@pytest.mark.parametrize("style", Style)
def test_the_projects_cases_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str], style: Style) -> None:
    """By the command that `init` prints, and by the one its README has, in its directory."""
    assert run("init", tmp_path / "words", "--style", style) == 0
    *_, told = capsys.readouterr().out.splitlines()
    command = told.partition("drakkar-flow ")[2].split()
    assert command == ["test", str(tmp_path / "words" / "pipeline.test.yaml")]
    readme = (tmp_path / "words" / "README.md").read_text()
    assert "    drakkar-flow test pipeline.test.yaml " in readme
    for arguments, directory in ((command, tmp_path), (["test", "pipeline.test.yaml"], tmp_path / "words")):
        tests = python("-m", "drakkar_flow.cli.main", *arguments, directory=directory)
        assert tests.returncode == 0, tests.stdout + tests.stderr
        assert "4 passed, 0 failed" in tests.stdout


@pytest.mark.parametrize("style", Style)
def test_the_projects_own_tests_pass(tmp_path: Path, style: Style) -> None:
    """As its README says: with pytest, in its directory, without Kafka."""
    directory = tmp_path / "Word Count"
    assert run("init", directory, "--style", style) == 0
    assert sorted(path.name for path in directory.iterdir()) == FILES
    tests = python("-m", "pytest", "-q", "-p", "no:cacheprovider", directory=directory)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "2 passed" in tests.stdout
    graph = python("-m", "drakkar_flow.cli.main", "graph", "pipeline.py", directory=directory)
    assert graph.returncode == 0, graph.stderr
    config = load(directory / "pipeline.yaml", environ={}).config
    assert (config.kafka.source_topic, config.sinks.kafka["counts"].topic) == ("word-count-in", "word-count-out")


def test_n15_init_beside_a_readme_adds_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What exists is kept and said to be; everything else is written."""
    (tmp_path / "README.md").write_text("mine")
    assert run("init", tmp_path) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path / 'README.md'} (kept, it exists already)\n" in told
    assert f"{tmp_path / 'pipeline.py'}\n" in told
    assert (tmp_path / "README.md").read_text() == "mine"
    assert {"pipeline.py", "pipeline.yaml", "pipeline.test.yaml"} < {path.name for path in tmp_path.iterdir()}
    assert run("init", tmp_path) == 0
    assert capsys.readouterr().out.count("(kept, it exists already)") == 5


@pytest.mark.parametrize("style", Style)
def test_n15_the_file_runs_by_itself(tmp_path: Path, style: Style) -> None:
    """`python pipeline.py` is `drakkar-flow run pipeline.py`, with its options."""
    assert run("init", tmp_path / "job", "--style", style) == 0
    ended = python("pipeline.py", "--set", "kafka.brokerz=x", directory=tmp_path / "job")
    assert (ended.returncode, "--set kafka.brokerz: unknown key" in ended.stderr) == (2, True)


def test_n15_the_tests_of_two_jobs_run_together(tmp_path: Path) -> None:
    """In one pytest from the directory above, each with its own pipeline."""
    for name, style in (("first", Style.HANDLER), ("second-job", Style.FLOW)):
        assert run("init", tmp_path / name, "--style", style) == 0
    tests = python("-m", "pytest", "-q", "-p", "no:cacheprovider", directory=tmp_path)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "4 passed" in tests.stdout


@pytest.fixture(scope="module")
def types_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library is typed once for both styles."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.xdist_group("types_cache")
@pytest.mark.parametrize("style", Style)
def test_n15_the_project_is_clean(tmp_path: Path, types_cache: Path, style: Style) -> None:
    """For ruff with its defaults, for mypy, and for our own lint."""
    directory = tmp_path / "job"
    assert run("init", directory, "--style", style) == 0
    for command in (
        ["ruff", "check", "--isolated", "."],
        ["ruff", "format", "--isolated", "--check", "."],
        ["mypy", "--cache-dir", str(types_cache), "."],
    ):
        ended = python("-m", *command, directory=directory)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert run("lint", directory / "pipeline.py", "--strict") == 0


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback."""
    (tmp_path / "file").write_text("")
    assert run("init", tmp_path / "file" / "x") == 2
    assert "can't be written: " in capsys.readouterr().err


def test_a_directory_without_letters_still_gives_names() -> None:
    """Topics have to be called something."""
    assert "source_topic: words-in" in project("--", Style.FLOW)["pipeline.yaml"]


def test_what_is_commented_out_are_keys_with_their_defaults() -> None:
    """Read as settings, they are accepted; those not said to be examples equal the defaults."""
    text = project("x", Style.HANDLER)["pipeline.yaml"].partition("\n\n")[2]
    lines = [line.replace("# ", "", 1) if line.lstrip().startswith("# ") else line for line in text.splitlines()]
    shown = from_mapping(yaml.safe_load("\n".join(lines)))
    plain = from_mapping(yaml.safe_load(text))
    assert shown.kafka.security.sasl_username == "joe"
    assert (shown.executor, shown.runtime, shown.metrics, shown.logging) == (
        plain.executor,
        plain.runtime,
        plain.metrics,
        plain.logging,
    )
    assert shown.dead_letter_topic == plain.dead_letter_topic


@pytest.mark.parametrize("style", Style)
def test_the_python_files_are_described(style: Style) -> None:
    """A newcomer reads them first."""
    for name, text in project("x", style).items():
        if name.endswith(".py"):
            tree = ast.parse(text)
            parts = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
            assert all(ast.get_docstring(part) for part in [tree, *parts])
