"""`drakkar-flow run` when it can't run: what is told, and the exit code."""

from pathlib import Path

import pytest

from drakkar_flow.cli.main import main


def run(*arguments: str | Path) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without a configuration of this process's own."""
    for name in ("DRAKKAR_CONFIG", "DK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRAKKAR_METRICS__ENABLED", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_flow_that_lacks_a_file_says_where_it_was_looked_for(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside what the file would have said, as one report."""
    Path("bare_flow.py").write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('x').route()\n")
    assert run("run", "bare_flow.py") == 2
    told = capsys.readouterr().err
    assert "  - sinks: no sink is configured" in told
    looked = [f"{directory}/{name}" for name in ("bare_flow.yaml", "bare_flow.yml", "drakkar.yaml", "drakkar.yml")]
    assert f"  - configuration: no file; looked for {', '.join(looked)}; set --config" in told


def test_two_files_that_could_be_meant_are_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started."""
    Path("two_files.py").write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('x').route()\n")
    Path("two_files.yaml").touch()
    Path("two_files.yml").touch()
    assert run("run", "two_files.py") == 2
    assert f"{directory}/two_files.yaml: stands beside two_files.yml" in capsys.readouterr().err


def test_assignments_reach_the_flow(capsys: pytest.CaptureFixture[str]) -> None:
    """And are checked like everything else."""
    Path("set_flow.py").write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('x').route()\n")
    assert run("run", "set_flow.py", "--set", "runtime.workers=0") == 2
    assert "--set runtime.workers: must be at least 1, not '0'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "lint", "graph", "test"])
def test_a_misspelled_hook_ends_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is connected: the place, the name and the nearest hook."""
    Path("typo_flow.py").write_text(
        "from drakkar_flow import Handler\n\n\nclass Words(Handler):\n"
        "    async def arrange(self, messages, pending):\n        return []\n\n"
        "    async def on_task_complet(self, result): ...\n\n\nflow = Words()\n"
    )
    Path("typo_flow.yaml").write_text(
        "kafka: {brokers: 'localhost:1', source_topic: in, consumer_group: g}\n"
        "executor: {binary_path: cat}\nsinks: {kafka: {out: {topic: out}}}\n"
    )
    cases = "flow: typo_flow.py\ncases:\n  - {name: one, input: [a], expect: {dead_letters: 0}}\n"
    Path("typo_flow.test.yaml").write_text(cases)
    assert run(command, "typo_flow.test.yaml" if command == "test" else "typo_flow.py") == 2
    told = "".join(capsys.readouterr())
    assert "typo_flow.py:8 Words.on_task_complet: unknown hook, never called; did you mean on_task_complete?" in told
