"""What the pages show is true: their Python runs, their commands work."""

from __future__ import annotations

import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from sqlite3 import OperationalError, connect
from typing import Any

import pytest

from drakkar_flow import load_config
from drakkar_flow.testing import CRASH
from drakkar_flow.testing import run_flow as run_in_kit
from drakkar_flow.testing.executor import ScriptedExecutor
from drakkar_flow.testing.harness import FlowHarness
from support.flow_run import run_flow
from support.kafka_io import Kafka, MakeTopic, committed, produce, read_all
from support.names import unique
from support.until import until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "flows/README.md", ROOT / "examples/README.md"]
README = (ROOT / "README.md").read_text()
COMMAND = (ROOT / "docs" / "command.md").read_text()
HANDLERS = (ROOT / "docs" / "handlers.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands(beginning: str, page: str = README) -> list[str]:
    """The README's, or another page's, shell commands that begin like this, without their comments."""
    lines = [re.split(r" +# ", line)[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(beginning)]


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in PAGES])
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    """Every relative link names a file that exists, and a heading of it."""
    place = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", re.sub(r"`[^`]*`", "", place.read_text()))
    assert [name for name, _ in links if not (place.parent / name).exists()] == []
    assert [
        link for link in links if link[1] and link[1] not in anchors(place.parent / link[0] if link[0] else place)
    ] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_design_page_names_every_room() -> None:
    """The tree on the page has exactly the folders of the package."""
    tree = (ROOT / "docs" / "design.md").read_text().partition("\nsrc/drakkar_flow/\n")[2].partition("errors.py")[0]
    named = set(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE))
    assert named == {path.parent.name for path in (ROOT / "src" / "drakkar_flow").glob("*/__init__.py")}


@pytest.mark.parametrize(
    "page",
    [
        "docs/cache.md",
        "docs/dead-letters.md",
        "docs/executors.md",
        "docs/flows.md",
        "docs/handlers.md",
        "docs/migrating-from-py-drakkar.md",
        "docs/plugins.md",
        "docs/sinks.md",
        "docs/state.md",
        "docs/testing.md",
    ],
)
def test_the_examples_of_a_page_print_what_it_says(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `>>>` example of the page, in order, as in one session."""
    session = "\n".join(blocks((ROOT / page).read_text(), "pycon"))
    test = doctest.DocTestParser().get_doctest(session, {}, page, page, 0)
    module = types.ModuleType(f"page_{Path(page).stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where pickle finds the classes of the page
    test.globs = vars(module)
    report: list[str] = []
    result = doctest.DocTestRunner().run(test, out=report.append, clear_globs=False)
    assert result.attempted > 3
    assert result.failed == 0, "".join(report)


def test_the_test_in_the_readme_passes(
    drakkar_kit: Callable[..., FlowHarness], drakkar_executor: ScriptedExecutor
) -> None:
    """It tests the README's flow."""
    names: dict[str, Any] = {"__name__": "readme"}
    for number in (0, 1):
        exec(compile(blocks(README, "python")[number], "README.md", "exec"), names)
    test = names["test_words_are_counted"]
    assert callable(test)
    test(drakkar_kit, drakkar_executor)


def readme_visits() -> Any:
    """The README's flow that counts per user."""
    names: dict[str, Any] = {"__name__": "visits"}
    exec(compile(blocks(README, "python")[2], "visits.py", "exec"), names)
    return names["flow"]


ANNA, OTTO = {"user": "anna"}, {"user": "otto"}


def test_the_counts_of_the_readme_survive_a_crash() -> None:
    """The visits that were not committed are read again, and each counts once."""
    outcome = run_in_kit(readme_visits(), [ANNA, OTTO, CRASH, ANNA])
    assert outcome.values[-1] == {"user": "anna", "visits": 2}
    assert outcome.state["stateful-count"] == {"anna": 2, "otto": 1}


@pytest.mark.integration
def test_the_counts_of_the_readme_need_a_store_alone(kafka: Kafka, make_topic: MakeTopic, tmp_path: Path) -> None:
    """The file runs as it stands, with real brokers."""
    config = {
        "sinks": {"kafka": {"visit-counts": {}}},
        "runtime": {"recovery": {"dir": str(tmp_path / "store")}},
    }
    inputs = [json.dumps(each).encode() for each in (ANNA, ANNA)]
    outcome = run_flow(kafka, partial(make_topic, 1), readme_visits(), inputs, config)
    assert outcome.values == [{"user": "anna", "visits": 1}, {"user": "anna", "visits": 2}]
    assert (outcome.exit_code, outcome.committed) == (0, 2)


@pytest.mark.integration
@pytest.mark.parametrize("page", [README, HANDLERS], ids=["flow", "handler"])
def test_both_styles_count_words(page: str, kafka: Kafka, make_topic: MakeTopic) -> None:
    """The README's flow and the handler of the page on handlers do the same."""
    names: dict[str, object] = {"__name__": "words"}
    exec(compile(blocks(page, "python")[0], "words.py", "exec"), names)
    inputs = [b'{"name": "a", "text": "to be or not"}', b'{"name": "b", "text": ""}']
    outcome = run_flow(kafka, make_topic, names["flow"], inputs, {"sinks": {"kafka": {"counts": {}}}})
    assert outcome.values == [{"name": "a", "words": 4}, {"name": "b", "words": 0}]
    assert (outcome.exit_code, outcome.committed) == (0, 2)


def test_the_settings_of_the_executors_page_are_settings(tmp_path: Path) -> None:
    """The YAML block loads as it stands."""
    file = tmp_path / "executors.yaml"
    file.write_text(blocks((ROOT / "docs" / "executors.md").read_text(), "yaml")[0])
    assert load_config(file).executor.persistent.args == ["--unbuffered", "-c", ".name"]


@pytest.mark.parametrize("page", [README, HANDLERS], ids=["readme", "handlers"])
def test_the_settings_of_a_page_load(page: str, tmp_path: Path) -> None:
    """Each YAML block by itself."""
    file = tmp_path / "block.yaml"
    assert blocks(page, "yaml")
    for block in blocks(page, "yaml"):
        file.write_text(block)
        load_config(file, environ={})


def test_both_styles_have_the_same_settings(tmp_path: Path) -> None:
    """But for the topic, which the flow names in code."""
    for page, topic in ((README, "input-events"), (HANDLERS, "documents")):
        file = tmp_path / "words.yaml"
        file.write_text(blocks(page, "yaml")[0])
        config = load_config(file, environ={})
        assert (config.kafka.brokers, config.kafka.consumer_group) == ("localhost:9092", "words")
        assert (config.sinks.kafka["counts"].topic, config.kafka.source_topic) == ("document-words", topic)


@pytest.mark.parametrize("command", commands("make"))
def test_the_make_targets_exist(command: str) -> None:
    """`make -n` knows every target that the README names."""
    done = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SHOWN = commands("drakkar-flow", COMMAND)


@pytest.mark.parametrize("command", [command for command in SHOWN if not command.startswith("drakkar-flow run")])
def test_the_commands_of_their_page_work(command: str, tmp_path: Path) -> None:
    """Each by itself, on a copy of the main job; `run` is tried below."""
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    done = subprocess.run(
        program(command), cwd=tmp_path, capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration
@pytest.mark.parametrize(
    "command",
    [*commands("python", COMMAND), *commands("drakkar-flow run", COMMAND)],
    ids=["bytewax", "runner", "command"],
)
def test_each_way_to_run_it_runs_the_main_job(
    command: str, kafka: Kafka, make_topic: MakeTopic, tmp_path: Path
) -> None:
    """A search is answered and committed, and SIGTERM ends the process with 0."""
    source, output, letters, group = make_topic(), make_topic(), make_topic(), unique("group")
    produce(kafka.bootstrap, source, [json.dumps({"path": str(ROOT / "README.md"), "pattern": "drakkar-flow"})])
    variables = {
        "KAFKA_BROKERS": kafka.bootstrap,
        "OUTPUT": str(tmp_path),
        "DRAKKAR_KAFKA__SOURCE_TOPIC": source,
        "DRAKKAR_KAFKA__CONSUMER_GROUP": group,
        "DRAKKAR_SINKS__KAFKA__FOUND__TOPIC": output,
        "DRAKKAR_DLQ__TOPIC": letters,
        "DRAKKAR_METRICS__ENABLED": "false",
    }
    with subprocess.Popen(
        program(command), cwd=ROOT, env={**environment(), **variables}, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            until(lambda: running.poll() is not None or committed(kafka.bootstrap, group, source), what="the commit")
            running.terminate()
            _, err = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 0, err
    found = json.loads(read_all(kafka.bootstrap, output)[0].value() or b"")
    assert found["matches"] > 5
    assert rows(tmp_path / "found.db") == 1


def program(command: str) -> list[str]:
    """The command with this Python, whether or not the package is installed."""
    name, *arguments = shlex.split(command)
    main = ["-c", "from drakkar_flow.cli.main import main; main()"]
    return [sys.executable, *(main if name == "drakkar-flow" else []), *arguments]


def environment() -> dict[str, str]:
    """The environment in which the package is found."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def rows(database: Path) -> int:
    """How many rows the table has; 0 while there is none."""
    connection = connect(database)
    try:
        return int(connection.execute("SELECT count(*) FROM found").fetchone()[0])
    except OperationalError:
        return 0
    finally:
        connection.close()
