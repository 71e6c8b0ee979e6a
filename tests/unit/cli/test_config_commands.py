"""The config commands and how errors leave the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main, report
from drakkar_flow.errors import DrakkarFlowError, Problem, StartupError


def run(*arguments: str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own configuration must not leak into a test."""
    for name in ("DRAKKAR_CONFIG", "DK_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_lint_of_a_good_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0."""
    path = tmp_path / "p.yaml"
    path.write_text("kafka: {brokers: b}\n")
    assert run("config", "lint", str(path)) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"


def test_lint_of_a_bad_file_tells_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, without colours or line breaks of its own when it is no terminal, exit code 2."""
    path = tmp_path / "p.yaml"
    path.write_text("kafka: {brokerz: b}\nexecutor: {env: {A: '[red]', B: 1}, window_size: 0}\n")
    assert run("config", "lint", str(path)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "invalid configuration:\n"
        f"  - {path}:1:9 kafka.brokerz: unknown key; did you mean 'brokers'?\n"
        f"  - {path}:2:30 executor.env.B: must be text, not 1; quote it\n"
        f"  - {path}:2:37 executor.window_size: must be at least 1, not 0\n"
    )


def test_lint_tells_what_moved_and_says_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A remark is no problem, unless it is asked to be."""
    path = tmp_path / "p.yaml"
    path.write_text("sources: {kafka: {topic: orders}}\n")
    told = f"  - {path}:1:19 sources.kafka.topic: is now kafka.source_topic; its value counts there; rename it\n"
    assert run("config", "lint", str(path)) == 0
    assert capsys.readouterr().out == f"{told}{path}: ok\n"
    assert run("config", "lint", "--strict", str(path)) == 1
    assert capsys.readouterr().out == told
    path.write_text("kafka: {source_topic: orders}\n")
    assert run("config", "lint", "--strict", str(path)) == 0


def test_a_flow_types_the_app_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For lint, show, schema and docs; without it the section is free."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path, flow = tmp_path / "p.yaml", f"{tmp_path / 'typed_flow.py'}:Scan"
    path.write_text("app: {limit: lots}\n")
    (tmp_path / "typed_flow.py").write_text(
        "from pydantic import BaseModel\nfrom drakkar_flow import Handler\n"
        "class Settings(BaseModel):\n    limit: int = 3\n"
        "class Scan(Handler):\n    app_config_model = Settings\n"
    )
    assert run("config", "lint", str(path)) == 0
    assert run("config", "lint", str(path), "--flow", flow) == 2
    assert f"{path}:1:7 app.limit: must be a whole number, not 'lots'" in capsys.readouterr().err
    path.write_text("app: {}\n")
    assert run("config", "show", str(path), "--flow", flow) == 0
    assert "app:\n  limit: 3\n" in capsys.readouterr().out
    assert run("config", "docs", "--flow", flow) == 0
    assert "| `limit` | integer | `3` |" in capsys.readouterr().out
    assert run("config", "schema", "--flow", flow) == 0
    assert "Settings" in json.loads(capsys.readouterr().out)["$defs"]


def test_show_prints_yaml_with_origins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The environment counts, and no file is needed."""
    monkeypatch.setenv("DRAKKAR_CLUSTER_NAME", "north")
    assert run("config", "show") == 0
    assert "cluster_name: north  # environment variable DRAKKAR_CLUSTER_NAME\n" in capsys.readouterr().out


def test_show_names_the_missing_file_and_who_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy points at the variable."""
    monkeypatch.setenv("DK_CONFIG", "/nowhere.yaml")
    assert run("config", "show") == 2
    assert "/nowhere.yaml: file not found; the environment variable DK_CONFIG names it" in capsys.readouterr().err


def test_schema_and_docs_print_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and Markdown on stdout."""
    assert run("config", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "DrakkarConfig"
    assert run("config", "docs") == 0
    assert capsys.readouterr().out.startswith("# Configuration\n")


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a subcommand."""
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("drakkar-flow ")


@pytest.mark.parametrize("arguments", [[], ["nope"], ["config", "lint"], ["--nope"]])
def test_wrong_use_ends_with_code_two(arguments: list[str]) -> None:
    """Like every command line."""
    assert run(*arguments) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DrakkarFlowError("it broke"), 1),
        (StartupError([Problem("kafka", "is down")]), 1),
        (StartupError([Problem("kafka", "has no topic")], exit_code=2), 2),
    ],
)
def test_an_error_of_the_library_is_its_message_and_code(
    error: DrakkarFlowError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback; the error's own exit code, else 1."""
    assert report(error) == code
    assert capsys.readouterr().err == f"{error}\n"


def test_the_command_starts_without_the_engine() -> None:
    """Checking a configuration must not load Bytewax or Kafka clients."""
    code = "import sys, drakkar_flow.cli.config; print([m for m in ('bytewax', 'confluent_kafka') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_without_a_file_the_one_that_run_would_find_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command says which file it was, and why that one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far").mkdir()
    flow, beside, here = tmp_path / "far" / "beside_flow.py", tmp_path / "far" / "beside_flow.yml", Path("drakkar.yaml")
    flow.write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('x').route()\n")
    here.touch()
    assert run("config", "lint") == 0
    assert capsys.readouterr().out == f"{here.absolute()} (in the working directory): ok\n"
    beside.write_text("cluster_name: near\n")
    assert run("config", "show", "--flow", str(flow)) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"# {beside} (beside the flow)\n")
    assert f"cluster_name: near  # {beside}:1:1\n" in shown


def test_lint_without_any_file_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to be checked, which is not well; `show` still shows what holds."""
    monkeypatch.chdir(tmp_path)
    looked = f"no file; looked for {tmp_path}/drakkar.yaml, {tmp_path}/drakkar.yml"
    assert run("config", "lint") == 2
    assert f"  - configuration: {looked}; name the file" in capsys.readouterr().err
    assert run("config", "show") == 0
    assert capsys.readouterr().out.startswith(f"# {looked}\n")


def test_assignments_count_and_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For lint and show, each as often as it is given."""
    path = tmp_path / "p.yaml"
    path.write_text("kafka: {brokers: b}\n")
    assert run("config", "lint", str(path), "--set", "kafka.brokerz=x", "--set", "executor.max_executors=0") == 2
    told = capsys.readouterr().err
    assert "--set kafka.brokerz: unknown key" in told
    assert "--set executor.max_executors: must be at least 1" in told
    assert run("config", "show", str(path), "--set", "kafka.brokers=c") == 0
    assert "  brokers: c  # --set kafka.brokers\n" in capsys.readouterr().out
