"""`drakkar-flow recorder`: what the recordings of workers say, for people and as data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main
from drakkar_flow.observe.events.tasks import TaskAttempts
from support.recorder import WriterScene, attempt, consumed, failed, finished, sealed


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording of one worker with a failed task, whose output would change a terminal."""
    scene = WriterScene(tmp_path_factory.mktemp("cli") / "rec")
    runs = TaskAttempts((attempt("t-7", 7, status="failed"), attempt("t-8", 8)))
    scene.turn(consumed(0, 9), runs, failed("t-7", 7, stderr="\x1b[2Jno such file /a/7"))
    scene.turn(finished(10, 10))
    scene.close()
    sealed(scene.root)
    return scene.root


def run(*arguments: str | Path) -> int:
    """Run the command; returns its exit code."""
    with pytest.raises(SystemExit) as end:
        main(["recorder", *map(str, arguments)])
    return int(end.value.code or 0)


def test_show_has_workers_counts_problems_and_failures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", root) == 0
    text = capsys.readouterr().out
    for part in ("w-1  2027-01-15T08:00:00.000Z to ", "10  read in:0", "10  finished done", "1  task jq exit 2"):
        assert part in text
    assert "record=in:0:7" in text
    assert "\x1b" not in text
    assert "\\x1b[2Jno such file" in text


def test_show_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", root, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [fault["count"] for fault in report["faults"]] == [1]
    assert report["files"][0]["ended"] == "clean"


def test_a_record_and_a_task_are_traced(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", "in:0:7", root, "--json") == 0
    record = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["what"] for line in record] == ["read", "task failed", "task_failed", "finished"]
    assert run("trace", "t-8", root) == 0
    assert "task completed  task_id=t-8" in capsys.readouterr().out


def test_an_unknown_record_ends_with_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", "in:0:99", root) == 1
    assert capsys.readouterr().err == "nothing is recorded of in:0:99\n"


def test_merge_export_and_verify(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("merge", root, "--to", tmp_path / "all") == 0
    assert run("merge", root, "--to", tmp_path / "all") == 0
    assert run("verify", tmp_path / "all") == 0
    assert run("export", tmp_path / "all", "--format", "csv", "--table", "tasks", "--out", tmp_path / "t.csv") == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "1 recordings, ok"


def test_verify_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.sqlite").write_bytes(b"no database" * 999)
    assert run("verify", tmp_path) == 1
    assert "a.sqlite: file is not a database" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "/nowhere/at/all"], "does not exist"),
        (["export", "--table", "outputs"], "is no table of an export"),
        (["export", "--format", "xml"], "xml"),
    ],
)
def test_a_wrong_argument_is_one_message(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error


def test_without_recordings_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run("show") == 0
    assert capsys.readouterr().out == "there are no recordings\n"


def test_the_command_starts_without_sqlite() -> None:
    """Other subcommands must not pay for this one."""
    import subprocess

    code = "import sys, drakkar_flow.cli.main; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
