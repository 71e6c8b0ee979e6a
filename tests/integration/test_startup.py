"""What a user sees when a worker can't start: each problem once, with a remedy, no traceback, the right exit code."""

from __future__ import annotations

import socket
import textwrap
from pathlib import Path
from typing import Any

import pytest

from support.scene import PIPELINES, Scene
from support.worker import Worker

pytestmark = pytest.mark.integration


def _message(worker: Worker, exit_code: int, timeout_s: float = 20.0) -> str:
    """What a worker that must not start prints for people, without the log; checks how it ends."""
    assert worker.wait(timeout_s) == exit_code, worker.stderr
    assert "Traceback" not in worker.stderr
    return "\n".join(line for line in worker.stderr.splitlines() if not line.startswith("{"))


def _run(scene: Scene, flow: Path, config: Path) -> Worker:
    return scene.launch("-m", "drakkar_flow.cli.main", "run", flow, "--config", config)


@pytest.mark.parametrize(
    ("section", "values", "where"),
    [
        ("kafka", {"source_topic": "not-there"}, "kafka.source_topic"),
        ("sinks", {"kafka": {"out": {"topic": "not-there"}}}, "sinks.kafka.out.topic"),
        ("dlq", {"topic": "not-there"}, "dlq.topic"),
    ],
    ids=["source", "sink", "dead letters"],
)
def test_a_missing_topic_is_named(scene: Scene, section: str, values: dict[str, object], where: str) -> None:
    """Exit 2, one problem: which setting, which topic, how to make it."""
    message = _message(scene.start("precomputed", {section: values}), 2)
    assert message.count("\n  - ") == 1
    assert f"{where}: topic 'not-there' does not exist; create it" in message


def test_all_missing_topics_are_named_at_once(scene: Scene) -> None:
    """Three topics are missing: three problems in one message."""
    missing: dict[str, dict[str, Any]] = {
        "kafka": {"source_topic": "no-source"},
        "sinks": {"kafka": {"out": {"topic": "no-sink"}}},
        "dlq": {"topic": "no-dlq"},
    }
    message = _message(scene.start("precomputed", missing), 2)
    assert message.count("\n  - ") == 3
    assert all(name in message for name in ("'no-source'", "'no-sink'", "'no-dlq'"))


@pytest.mark.slow
def test_brokers_that_do_not_answer_are_waited_for_and_named(scene: Scene) -> None:
    """Exit 1 when the start-up time is over, with the address."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        message = _message(scene.start("precomputed", {"kafka": {"brokers": address, "startup_timeout_s": 2}}), 1)
    assert f"no broker answers at {address} within 2 s" in message


def _everywhere(folder: Path) -> Path:
    """A flow to every sink of the configuration."""
    path = folder / "everywhere.py"
    path.write_text("from drakkar_flow import StreamFlow\n\nflow = StreamFlow('everywhere').decode(dict).route()\n")
    return path


@pytest.mark.parametrize(
    ("kind", "settings", "where"),
    [
        ("postgres", {"dsn": "postgres://joe:PG/PW@127.0.0.1:1/app"}, "sinks.postgres.main.dsn"),
        ("postgres", {"dsn": "postgres://joe:PG#PW@127.0.0.1:1/app"}, "sinks.postgres.main.dsn"),
        ("redis", {"url": "redis://127.0.0.1:1/0?db=PGPW"}, "sinks.redis.main.url"),
        ("redis", {"url": "redis://127.0.0.1:1/0?retries=PGPW"}, "sinks.redis.main.url"),
        ("redis", {"url": "redis://:PG/PW@127.0.0.1:1/0"}, "sinks.redis.main.url"),
        ("mongo", {"uri": "mongodb://joe:PG/PW@127.0.0.1:1", "database": "d"}, "sinks.mongo.main.uri"),
        ("mongo", {"uri": "mongodb://joe:PGPW@127.0.0.1:1/?authSource=", "database": "d"}, "sinks.mongo.main.uri"),
        ("http", {"url": "http://joe:PG/PW@127.0.0.1:1/"}, "sinks.http.main.url"),
        ("filesystem", {"base_path": __file__}, "sinks.filesystem.main.base_path"),
        ("sqlite", {"path": __file__}, "sinks.sqlite.main.path"),
    ],
)
def test_g8_g14_n14_what_is_wrong_with_a_sink_ends_the_start_at_once(
    scene: Scene, tmp_path: Path, kind: str, settings: dict[str, object], where: str
) -> None:
    """Exit 2 with the key, no traceback, no wait, and no word of a password, in the message or in the log."""
    worker = _run(scene, _everywhere(tmp_path), scene.config({"sinks": {kind: {"main": settings}}}))
    message = _message(worker, 2)
    assert where in message
    assert "startup_waiting" not in worker.stderr
    assert "PW" not in worker.stderr.replace("PWD", "")


def test_n14_a_login_and_a_database_that_a_server_refuses_end_the_start_at_once(
    scene: Scene, tmp_path: Path, postgres: str
) -> None:
    """Both sinks are told at once, though others could be waited for."""
    nowhere = {"dsn": postgres.rpartition("/")[0] + "/nowhere"}
    nobody = {"dsn": postgres.replace("drakkar@", "nobody@")}
    config = scene.config({"sinks": {"postgres": {"one": nowhere, "two": nobody}}})
    worker = _run(scene, _everywhere(tmp_path), config)
    message = _message(worker, 2)
    assert "sinks.postgres.one.dsn" in message
    assert "sinks.postgres.two.dsn" in message
    assert "startup_waiting" not in worker.stderr


def test_a_missing_program_is_named(scene: Scene) -> None:
    """Exit 2: the program is looked for before anything is read."""
    message = _message(scene.start("children", {"executor": {"binary_path": "no-such-program"}}), 2)
    assert "executor.binary_path" in message
    assert "no-such-program" in message


def test_a_taken_port_is_named(scene: Scene) -> None:
    """Exit 1: the metrics' port belongs to somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        message = _message(scene.start("precomputed", {"metrics": {"port": port}}), 1)
    assert f"port {port} is in use" in message


def test_an_unknown_key_is_told_with_its_line(scene: Scene) -> None:
    """Exit 2: file, line and column of a key that is none, together with every other such key."""
    config = scene.config({"kafka": {"broker": "x"}, "runtime": {"comit_interval_s": 1}})
    message = _message(_run(scene, PIPELINES / "precomputed.py", config), 2)
    assert message.count("\n  - ") == 2
    line = next(number for number, text in enumerate(config.read_text().splitlines(), 1) if "broker: x" in text)
    assert f"{config.name}:{line}:" in message
    assert "commit_interval_s" in message


def test_broken_yaml_is_told_with_its_line(scene: Scene) -> None:
    """Exit 2: where the YAML breaks."""
    config = scene.directory / "broken.yaml"
    config.write_text("kafka:\n  brokers: [unclosed\n")
    assert "broken.yaml:" in _message(_run(scene, PIPELINES / "precomputed.py", config), 2)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("flow = (", "SyntaxError"),
        ("import no_such_module", "no_such_module"),
        ("other = 1", "'flow' is not defined; end the file with flow = dataflow(...)"),
        ("flow = 1", "int is not a flow"),
        ("from drakkar_flow import Handler\nother = Handler()", "bad.py:other"),
        ("from drakkar_flow import Handler as flow", "expected a handler instance, got the class BaseDrakkarHandler"),
    ],
    ids=["syntax", "import", "no flow", "not a flow", "another name", "a class"],
)
def test_a_bad_flow_file_is_told(scene: Scene, source: str, told: str) -> None:
    """Exit 2: what is wrong with the file, and where it is."""
    file = scene.directory / "bad.py"
    file.write_text(textwrap.dedent(source))
    message = _message(_run(scene, file, scene.config()), 2)
    assert message.count("\n  - ") == 1
    assert told in message


def test_a_missing_flow_file_is_told(scene: Scene) -> None:
    """Exit 2: there is no such file."""
    assert "file not found" in _message(_run(scene, scene.directory / "none.py", scene.config()), 2)
