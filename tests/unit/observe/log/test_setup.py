"""How lines are written, and where to."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from logging import Logger
from pathlib import Path

import pytest
import structlog
from structlog._config import BoundLoggerLazyProxy

from drakkar_flow.errors import StartupError
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.lifecycle import FlowFailed
from drakkar_flow.observe.events.source import CommitFailed
from drakkar_flow.observe.log.lines import LINES
from drakkar_flow.observe.log.listener import LogListener
from drakkar_flow.observe.log.setup import LoggingHandle, configure_logging
from support.log_lines import LogScene
from support.log_lines import read_lines as read


def test_a_line_is_one_json_object_with_who_wrote_it(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """The fields every line has, in the order people look for them, and what the line brings along."""
    configured(output=str(tmp_path / "log"), consumer_group="g", cluster_name="c", service_version="1.2", level="info")
    structlog.get_logger().bind(module="engine", category="life").warning("héllo", count=3)
    (line,) = read(tmp_path / "log")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    del line["timestamp"]
    assert line == {
        "level": "warning",
        "event": "héllo",
        "service_name": "drakkar",
        "service_version": "1.2",
        "worker_id": "w-1",
        "consumer_group": "g",
        "cluster_name": "c",
        "module": "engine",
        "category": "life",
        "count": 3,
    }


def test_lines_of_the_standard_library_look_the_same(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """Third-party code logs through `logging`; its lines are JSON too, with the logger's name, text and extras."""
    configured(output=str(tmp_path / "log"))
    logging.getLogger("some.client").warning("gone %d times", 3, extra={"broker": "b1"})
    (line,) = read(tmp_path / "log")
    expected = {
        "level": "warning",
        "event": "gone 3 times",
        "logger": "some.client",
        "broker": "b1",
        "worker_id": "w-1",
        "service_name": "drakkar",
    }
    assert expected.items() <= line.items()


@pytest.mark.parametrize("logger", [logging.getLogger("x"), structlog.get_logger()], ids=["logging", "structlog"])
def test_an_exception_is_text_without_local_variables(
    configured: Callable[..., LoggingHandle],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    logger: Logger | BoundLoggerLazyProxy,
) -> None:
    """The traceback is a field of the line, and a secret in a local variable does not leak, in either format."""
    for format_ in ("json", "console"):
        handle = configured(output=str(tmp_path / format_), format=format_)
        try:
            secret = "hunter" + str(2)
            raise ValueError("wrong " + str(len(secret)))
        except ValueError:
            logger.exception("it_failed")
        handle.close()
    (line,) = read(tmp_path / "json")
    assert "ValueError: wrong 7" in line["exception"]
    assert line["level"] == "error"
    text = (tmp_path / "console").read_text(encoding="utf-8")
    assert "it_failed" in text
    assert "ValueError: wrong 7" in text
    assert "hunter2" not in text + line["exception"]


@pytest.mark.parametrize("logger", [logging.getLogger("x"), structlog.get_logger()], ids=["logging", "structlog"])
def test_lines_below_the_level_are_dropped(
    configured: Callable[..., LoggingHandle], tmp_path: Path, logger: Logger | BoundLoggerLazyProxy
) -> None:
    """The level holds for both libraries."""
    configured(output=str(tmp_path / "log"), level="WARNING")
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in read(tmp_path / "log")] == ["loud"]


@pytest.mark.parametrize("output", ["stderr", "stdout"])
def test_lines_go_to_the_stream_asked_for(
    configured: Callable[..., LoggingHandle], capsys: pytest.CaptureFixture[str], output: str
) -> None:
    """stderr is the default; stdout is left alone unless asked for."""
    configured(**({"output": output} if output == "stdout" else {}))
    structlog.get_logger().info("here")
    captured = capsys.readouterr()
    assert json.loads(getattr(captured, output[3:]))["event"] == "here"
    assert (captured.out + captured.err).count("\n") == 1


def test_the_file_is_named_after_the_worker_and_its_directories_are_made(
    configured: Callable[..., LoggingHandle], tmp_path: Path
) -> None:
    """Placeholders are filled in, and no id can climb out of the directory."""
    configured(output=str(tmp_path / "{cluster_name}/a/{worker_id}.log"), worker_id="../w/1", cluster_name="prod")
    structlog.get_logger().info("here")
    assert [line["event"] for line in read(tmp_path / "prod" / "a" / ".._w_1.log")] == ["here"]


def test_the_file_is_appended_to_and_opened_anew_after_a_rotation(
    configured: Callable[..., LoggingHandle], tmp_path: Path
) -> None:
    """A restart keeps the old lines, and a moved file does not swallow the new ones."""
    path = tmp_path / "log"
    configured(output=str(path)).close()
    configured(output=str(path))
    structlog.get_logger().info("one")
    path.rename(tmp_path / "log.1")
    structlog.get_logger().info("two")
    assert [line["event"] for line in read(tmp_path / "log.1")] == ["one"]
    assert [line["event"] for line in read(path)] == ["two"]


def test_a_file_that_can_not_be_written_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    """The message names the setting and the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"logging\.output: can't write .*file/log: .*; set a file") as caught:
        configure_logging(output=str(tmp_path / "file" / "log"), worker_id="w")
    assert caught.value.exit_code == 2


def test_values_json_does_not_know_are_written_as_text(
    configured: Callable[..., LoggingHandle], tmp_path: Path
) -> None:
    """No value makes a line fail."""
    configured(output=str(tmp_path / "log"))
    structlog.get_logger().info("odd", raw=b"\xff", kind=LINES.keys)
    (line,) = read(tmp_path / "log")
    assert (line["raw"], line["kind"]) == ("\\xff", "dict.keys")


def test_importing_and_listening_leave_the_programs_logging_alone() -> None:
    """Only the application configures logging, by asking for it."""
    before = (list(logging.getLogger().handlers), logging.getLogger().level, structlog.is_configured())
    LogScene().bus.emit(FlowFailed("boom"))
    assert (list(logging.getLogger().handlers), logging.getLogger().level, structlog.is_configured()) == before


@pytest.mark.parametrize("host_configured", [True, False])
def test_close_gives_the_program_its_logging_back(tmp_path: Path, host_configured: bool) -> None:
    """Handlers, level and structlog's configuration are what they were before."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    if host_configured:
        structlog.configure(processors=[structlog.stdlib.add_log_level])
    processors = structlog.get_config()["processors"]
    handle = configure_logging(output=str(tmp_path / "log"), worker_id="w", level="DEBUG")
    assert structlog.get_config()["processors"] != processors
    handle.close()
    handle.close()
    try:
        assert (list(root.handlers), root.level) == before
        assert structlog.is_configured() is host_configured
        assert structlog.get_config()["processors"] == processors
    finally:
        structlog.reset_defaults()


class Broken(io.StringIO):
    """A stream nobody reads any more."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_stream_nobody_reads_does_not_hurt_the_flow(
    configured: Callable[..., LoggingHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a line can't be written, events are still handed out."""
    monkeypatch.setattr(sys, "stderr", Broken())
    errors: list[Exception] = []
    bus = Bus(on_error=lambda _, exc: errors.append(exc))
    configured()
    LogListener(structlog.get_logger()).listen(bus)
    bus.emit(CommitFailed("x"))
    assert errors == []
