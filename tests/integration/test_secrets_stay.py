"""Secrets of a worker stay in it: log lines, dead letters, its programs' environment, its command's output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.kafka_io import produce, read_all
from support.scene import Scene
from support.serving import serving
from support.worker import ROOT

pytestmark = pytest.mark.integration

SECRETS = ("pa55word", "t0ken-1", "b3arer-1")


class Answering(BaseHTTPRequestHandler):
    """Takes what is posted; refuses `post-3` and repeats what it was asked for."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if b"post-3" in body else 200)
        self.end_headers()
        self.wfile.write(f"no {self.path} for {self.headers['Authorization']}".encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def web() -> Iterator[int]:
    """The port of a web service."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Answering)) as server:
        yield server.server_address[1]


@pytest.mark.parametrize("levels", [{}, {"httpx": "DEBUG", "httpcore": "DEBUG"}], ids=["default", "asked"])
def test_g3_an_http_sinks_secrets_are_in_no_line_and_no_letter(scene: Scene, web: int, levels: dict[str, str]) -> None:
    """Libraries are silent unless asked for; a service that repeats secrets in its answers gets them nowhere."""
    url = f"http://joe:pa55word@127.0.0.1:{web}/x?token=t0ken-1"
    http = {"hook": {"url": url, "headers": {"X-Auth-Token": "Bearer b3arer-1"}}}
    settings: dict[str, dict[str, Any]] = {"sinks": {"kafka": {}, "http": http}, "logging": {"levels": levels}}
    worker = scene.start("posting", settings)
    produce(scene.bootstrap, scene.source, map(str, range(20)), partition=0)
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert [secret for secret in SECRETS if secret in worker.stderr] == []
    assert ("HTTP Request" in worker.stderr) is bool(levels)
    (letter,) = read_all(scene.bootstrap, scene.dlq)
    text = f"{letter.value()!r} {letter.headers()}"
    assert "400" in text
    assert [secret for secret in SECRETS if secret in text] == []


def test_g9_programs_do_not_see_the_workers_secrets(scene: Scene, tmp_path: Path) -> None:
    """Neither those with such names or values nor those of the configuration; `executor.env` gives them one."""
    seen = tmp_path / "seen"
    environment = {
        "DATABASE_URL": "x1secret",
        "MYSQL_PWD": "x2secret",
        "STORE": "redis://:x3secret@host/0",
        "LOGIN": "x4secret",
        "PLAIN_SETTING": "visible",
        "API_TOKEN": "x5secret",
    }
    postgres = {"unused": {"dsn": "postgres://joe:${LOGIN}@127.0.0.1:1/app"}}
    settings: dict[str, dict[str, Any]] = {
        "executor": {"env": {"GIVEN": "${API_TOKEN}"}},
        "executors": {"other": {"binary_path": "cat"}, "open": {"binary_path": "cat", "env_inherit": "all"}},
        "logging": {"level": "DEBUG"},
    }
    config = scene.config(settings)
    config.write_text(config.read_text().replace("sinks:\n", f"sinks:\n  postgres: {postgres}\n"))
    pipeline = ROOT / "tests" / "integration" / "pipelines" / "hostile.py"
    command = ("-m", "drakkar_flow.cli.main", "run", pipeline, "--config", config)
    worker = scene.launch(*command, environment=environment)
    produce(scene.bootstrap, scene.source, [f"cat >/dev/null; env >{seen}"])
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    variables = dict(line.partition("=")[::2] for line in seen.read_text().splitlines())
    assert {name for name in environment if name in variables} == {"PLAIN_SETTING"}
    assert variables["GIVEN"] == "x5secret"
    assert {"PATH", "HOME"} <= variables.keys()
    withheld, others = worker.lines("environment_withheld")
    assert ("executor" in withheld, others["executor"]) == (False, "other")
    assert {"DATABASE_URL", "MYSQL_PWD", "STORE", "LOGIN", "API_TOKEN"} <= set(withheld["variables"])
    assert "secret" not in worker.stderr.replace("secret_", "")


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}],
    ids=["C", "ascii"],
)
def test_f22_the_command_writes_any_text_in_any_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    """What goes to a pipe is UTF-8, output as well as errors."""
    config = tmp_path / "p.yaml"
    config.write_text("cluster_name: grün漢\n", encoding="utf-8")
    environment = {**os.environ, **locale, "PYTHONPATH": str(ROOT / "src")}

    def run(command: str) -> subprocess.CompletedProcess[bytes]:
        arguments = [sys.executable, "-m", "drakkar_flow.cli.main", "config", command, str(config)]
        return subprocess.run(arguments, env=environment, capture_output=True, check=False)

    assert "grün漢" in run("show").stdout.decode("utf-8")
    config.write_text("grün漢: 1\n", encoding="utf-8")
    wrong = run("lint")
    assert wrong.returncode == 2
    assert "grün漢" in (wrong.stdout + wrong.stderr).decode("utf-8")
