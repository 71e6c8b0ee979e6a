"""The command itself: its options, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main

COMMAND = [sys.executable, "-m", "drakkar_flow"]


def ended(*arguments: str | Path, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=directory, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [["--version"], ["-V"]])
def test_n18_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Both spellings."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert (caught.value.code or 0, capsys.readouterr().out.startswith("drakkar-flow ")) == (0, True)


@pytest.mark.parametrize(
    "command", [[], ["run"], ["lint"], ["check"], ["status"], ["topics", "create"], ["config", "lint"]]
)
def test_n18_help_is_short_too(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`-h` of each command."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "-h"])
    assert (caught.value.code or 0, "Usage: drakkar-flow" in capsys.readouterr().out) == (0, True)


def test_n18_completion_can_be_shown() -> None:
    """For a shell that is named."""
    shown = subprocess.run(
        COMMAND, env={**os.environ, "_DRAKKAR_FLOW_COMPLETE": "source_bash"}, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "drakkar-flow" in shown.stdout
    assert "--show-completion" in ended("--help").stdout


def test_n18_a_closed_pipe_is_no_traceback() -> None:
    """`drakkar-flow config docs | true`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        process = subprocess.run([*COMMAND, "config", "docs"], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in process.stderr
    assert "Exception" not in process.stderr


def test_n15_a_class_in_place_of_a_handler_names_the_users_line(tmp_path: Path) -> None:
    """The line of `dataflow(...)`, and what to write there."""
    (tmp_path / "job.py").write_text(
        "from drakkar_flow import Handler, dataflow\n\nclass Words(Handler):\n    pass\n\nflow = dataflow(Words)\n"
    )
    for command in ("graph", "run", "lint"):
        told = ended(command, "job.py", directory=tmp_path)
        assert told.returncode == 2
        what = "expected a handler instance, got the class Words: write dataflow(Words())"
        assert f"job.py:6 flow: {what}" in told.stderr
    assert len(told.stderr.splitlines()) == 2


def test_n15_what_a_flow_raises_is_told_by_the_users_frames(tmp_path: Path) -> None:
    """Not by those of libraries; one line."""
    (tmp_path / "job.py").write_text("import json\n\ndef read():\n    return json.loads('{')\n\nflow = read()\n")
    told = ended("graph", "job.py", directory=tmp_path)
    (_, problem) = told.stderr.splitlines()
    assert "JSONDecodeError" in problem
    assert "at job.py:4 (called from job.py:6); fix the file" in problem


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"\xff\xfe\xfd = 1\n"], ids=["null bytes", "no UTF-8"])
def test_n18_a_binary_file_is_no_flow(tmp_path: Path, content: bytes) -> None:
    """One line, exit code 2."""
    (tmp_path / "job.py").write_bytes(content)
    told = ended("run", "job.py", directory=tmp_path)
    assert (told.returncode, "Traceback" in told.stderr) == (2, False)
    assert len(told.stderr.splitlines()) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_n18_a_signal_while_it_connects_ends_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Without a traceback: nothing was read yet."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "job.py").write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('x').route()\n")
        (tmp_path / "job.yaml").write_text(
            f"kafka: {{brokers: '127.0.0.1:{silent.getsockname()[1]}', source_topic: a, consumer_group: b}}\n"
            "sinks: {filesystem: {out: {base_path: .}}}\nmetrics: {enabled: false}\n"
        )
        arguments = [*COMMAND, "run", "job.py"]
        process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True, process_group=0)
        try:
            silent.accept()[0].close()
            process.send_signal(number)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, "Traceback" in told) == (code, False), told
    if number == signal.SIGTERM:
        assert '"drakkar_stopped"' in told


def test_n18_log_format_and_verbose(tmp_path: Path) -> None:
    """They go over the file's settings; what fails is told in that form."""
    (tmp_path / "job.py").write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('x').route()\n")
    command = ["run", "job.py", "-v", "--set", "metrics.enabled=false", "--log-format"]
    console = ended(*command, "console", directory=tmp_path)
    assert (console.returncode, "drakkar_starting" in console.stderr) == (2, True)
    assert not any(line.startswith("{") for line in console.stderr.splitlines())
    ecs = ended(*command, "ecs", directory=tmp_path)
    assert '"@timestamp"' in ecs.stderr
    before = ended("-v", "--log-format", "ecs", "run", "job.py", "--set", "metrics.enabled=false", directory=tmp_path)
    assert '"@timestamp"' in before.stderr
    wrong = ended(*command, "xml", directory=tmp_path)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
