"""Log output that fails, and what is written whatever happens: UTF-8, one object per line, without secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
import threading
from _io import StringIO
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest
import structlog

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.observe.log.output import FileTarget, StreamTarget
from drakkar_flow.observe.log.setup import LoggingHandle
from support.log_lines import read_lines as read


def log(event: str, **fields: object) -> None:
    """Write a line."""
    structlog.get_logger("drakkar_flow").warning(event, **fields)


def events(path: Path) -> list[str]:
    """The events of a JSON log."""
    return [line["event"] for line in read(path)]


# --- G21: output that fails -----------------------------------------------------------------------


def test_g21_a_full_disk_drops_lines_counts_them_and_says_so_once(
    configured: Callable[..., LoggingHandle], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is raised, neither at a line nor at the end."""
    lost = []
    handle = configured(output="/dev/full", on_lost=lambda: lost.append(1))
    for _ in range(10):
        log("x")
    handle.close()
    assert len(lost) == 10
    first, last = capfd.readouterr().err.splitlines()
    assert first == (
        "drakkar-flow: logging.output /dev/full: No space left on device; log lines are dropped until a write succeeds"
    )
    assert last == "drakkar-flow: logging.output /dev/full: 10 log lines were dropped"


def test_g21_the_log_goes_on_when_there_is_room_again(
    configured: Callable[..., LoggingHandle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next line is preceded by how many were lost; a line that fitted in part is taken back."""
    path = tmp_path / "log"
    configured(output=str(path))
    log("before")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    log("lost")
    log("lost too")
    monkeypatch.setattr(os, "write", write)
    log("after")
    assert events(path) == ["before", "log_lines_lost", "after"]
    assert read(path)[1]["count"] == 2


def test_g21_a_torn_line_of_a_shared_file_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process has written behind it, the part stays, and the next line has its own."""
    target, write = FileTarget(tmp_path / "log"), os.write

    def in_parts(fd: int, data: bytes) -> int:
        written = write(fd, data[:2])
        write(fd, b"other\n")
        return written

    monkeypatch.setattr(os, "write", in_parts)
    with pytest.raises(OSError, match="part of the line"):
        target.write(b"line\n")
    monkeypatch.setattr(os, "write", write)
    target.write(b"next\n")
    target.close()
    assert (tmp_path / "log").read_bytes().splitlines() == [b"liother", b"", b"next"]


def test_g21_a_directory_that_is_removed_is_made_again(
    configured: Callable[..., LoggingHandle], tmp_path: Path
) -> None:
    """A cleaning job that is too eager costs the old lines only."""
    path = tmp_path / "logs" / "log"
    configured(output=str(path))
    log("one")
    shutil.rmtree(tmp_path / "logs")
    log("two")
    assert events(path) == ["two"]


def test_g21_a_place_that_can_not_be_made_again_loses_lines_until_it_can(
    configured: Callable[..., LoggingHandle], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file where the directory was, say."""
    path = tmp_path / "logs" / "log"
    configured(output=str(path))
    shutil.rmtree(tmp_path / "logs")
    (tmp_path / "logs").write_text("")
    log("lost")
    (tmp_path / "logs").unlink()
    log("found")
    assert events(path) == ["log_lines_lost", "found"]
    assert "drakkar-flow: logging.output" in capfd.readouterr().err


def test_g21_a_rotated_file_is_opened_again(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """By rename and by copy and truncate."""
    path = tmp_path / "log"
    configured(output=str(path))
    log("one")
    path.rename(tmp_path / "log.1")
    log("two")
    os.truncate(path, 0)
    log("three")
    assert (events(tmp_path / "log.1"), events(path)) == (["one"], ["three"])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_g21_a_pipe_whose_reader_is_gone_drops_lines(
    configured: Callable[..., LoggingHandle], monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """EPIPE is no error of the flow."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        lost = []
        configured(output=stream, on_lost=lambda: lost.append(1))
        os.close(reading)
        log("x")
        assert lost == [1]


@pytest.mark.parametrize("stream", [None, "closed"])
def test_g21_a_closed_stream_drops_lines(
    configured: Callable[..., LoggingHandle], monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    """As `>&-` leaves it, or a program that closed it later."""
    given = None if stream is None else io.StringIO()
    monkeypatch.setattr(sys, "stdout", given)
    lost = []
    handle = configured(output="stdout", on_lost=lambda: lost.append(1))
    if given is not None:
        given.close()
    log("x")
    handle.close()
    assert lost == [1]


def test_g21_a_pipe_that_nobody_reads_does_not_hold_up_the_flow(
    configured: Callable[..., LoggingHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a second lines are dropped; when somebody reads again, they are written, each on its own line."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        lost = []
        configured(output="stdout", on_lost=lambda: lost.append(1))
        for _ in range(100):
            log("x", text="y" * 5000)
        assert lost
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reading, 65536), b"")))
        reader.start()
        while not structlog_line_written(lost):
            pass
        log("last")
    reader.join()
    os.close(reading)
    lines = b"".join(received).splitlines()
    whole = [json.loads(line)["event"] for line in lines if line.endswith(b"}") and line.startswith(b"{")]
    assert whole[-1] == "last"
    assert "log_lines_lost" in whole


def structlog_line_written(lost: list[int]) -> bool:
    """Whether a line gets through."""
    before = len(lost)
    log("again")
    return len(lost) == before


def test_a_line_that_can_not_be_rendered_is_replaced(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """A value whose text raises costs its line, not the flow."""

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

    configured(output=str(tmp_path / "log"))
    log("x", value=Bad())
    (line,) = read(tmp_path / "log")
    assert (line["event"], line["error"]) == (
        "log_line_failed",
        "RuntimeError while rendering a line from drakkar_flow",
    )


def test_a_stream_without_descriptor_takes_text(capsys: pytest.CaptureFixture[str]) -> None:
    """As tests and notebooks have it."""
    StreamTarget("stdout", sys.stdout).write("é\n".encode())
    assert capsys.readouterr().out == "é\n"


# --- F22, N10: what a line looks like -------------------------------------------------------------


class Color(Enum):
    RED = "red"


@dataclass
class Place:
    name: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("/a"), "/a"),
        (Path, "Path"),
        (ValueError("no"), "no"),
        (KeyError(), "KeyError"),
        (b"a\xff", "a\\xff"),
        ({1: Path("/a")}, {"1": "/a"}),
        ((1, {2}), [1, [2]]),
        (float("nan"), "nan"),
        (Color.RED, "red"),
        (Place("x"), {"name": "x"}),
        (object(), "object"),
        ({("a", 1): None}, {"('a', 1)": None}),
    ],
)
def test_n10_values_are_data_not_reprs(
    configured: Callable[..., LoggingHandle],
    tmp_path: Path,
    value: object,
    expected: list[int | list[int]] | str | dict[str, object],
) -> None:
    """Whatever is logged, a line is JSON that any reader takes."""
    configured(output=str(tmp_path / "log"))
    log("x", value=value)
    text = (tmp_path / "log").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["value"] == expected


def test_values_without_end_are_cut(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """A list that contains itself, or is very long."""
    endless: list[object] = []
    endless.append(endless)
    configured(output=str(tmp_path / "log"))
    log("x", endless=endless, long=list(range(5000)))
    (line,) = read(tmp_path / "log")
    assert len(line["long"]) == 1000


@pytest.mark.parametrize("text", ["é", "漢字", "a\udc80b", "\ud83d", "\x1b[31m", "\u2028", "\x00"])
def test_f22_a_line_is_one_json_object_in_utf8(
    configured: Callable[..., LoggingHandle], tmp_path: Path, text: str
) -> None:
    """Also of halves of characters and of control characters; none of them ends the line."""
    configured(output=str(tmp_path / "log"))
    log(text, value=text)
    logging.getLogger("lib").warning("%s", text)
    raw = (tmp_path / "log").read_bytes()
    assert raw.count(b"\n") == 2
    for line in raw.decode("utf-8").split("\n")[:2]:
        assert json.loads(line)["event"] == text


def test_n10_the_console_shows_texts_as_texts(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """Blocks for what has several lines, no quotes and escapes around them, and nothing that steers a terminal."""
    configured(output=str(tmp_path / "log"), format="console")
    try:
        raise ValueError("broken")
    except ValueError as exc:
        error = exc
    log(
        "it_failed",
        stderr="one\n\x1b[2Jtwo\n",
        stacks={"loop thread": 'File "a.py", line 1\n  wait()'},
        offsets={"in:0": 7},
        command=["/bin/rg", "-c"],
        path=Path("/a b"),
        exc_info=error,
        expect="it goes on",
    )
    text = (tmp_path / "log").read_text()
    head, *rest = text.splitlines()
    assert head.endswith('WARNING  it_failed  offsets=in:0:7 command=/bin/rg,-c path="/a b"')
    assert rest[:7] == [
        "    stderr:",
        "        one",
        "        \\x1b[2Jtwo",
        "    stacks:",
        "        loop thread:",
        '            File "a.py", line 1',
        "              wait()",
    ]
    assert "    ValueError: broken" in rest
    assert rest[-1] == "    -> it goes on"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "is_json"), [(Terminal(), False), (io.StringIO(), True)])
def test_n10_auto_is_console_at_a_terminal_and_json_elsewhere(
    configured: Callable[..., LoggingHandle],
    monkeypatch: pytest.MonkeyPatch,
    stream: StringIO | Terminal,
    is_json: bool,
) -> None:
    """As the default."""
    monkeypatch.setattr(sys, "stderr", stream)
    configured()
    log("x")
    assert stream.getvalue().startswith("{") is is_json


# --- G3: secrets and libraries --------------------------------------------------------------------

CONFIG = DrakkarConfig(
    sinks={
        "http": {
            "a": {"url": "http://joe:pa55word@h/x?token=t0ken-1", "headers": {"Authorization": "Bearer b3arer-1"}}
        },
        "postgres": {"a": {"dsn": "postgres://joe:s%40crEt@db/app"}},
    },
    executor={"env": {"MYSQL_PWD": "my5ql"}},
)
SECRETS = ("pa55word", "t0ken-1", "b3arer-1", "s%40crEt", "s@crEt", "my5ql", "0ther")


@pytest.mark.parametrize("format_", ["json", "console"])
@pytest.mark.parametrize("fields", ["plain", "ecs"])
def test_g3_no_secret_gets_into_a_line(
    configured: Callable[..., LoggingHandle], tmp_path: Path, format_: str, fields: str
) -> None:
    """Neither by our lines nor by libraries', in texts, lists, mappings or stacks."""
    path = tmp_path / "log"
    configured(output=str(path), format=format_, fields=fields, redact=CONFIG.redactor, levels={"httpx": "INFO"})
    logging.getLogger("httpx").info('HTTP Request: POST %s "HTTP/1.1 200 OK"', "http://joe:pa55word@h/x?token=t0ken-1")
    log("x", error="auth s@crEt failed", more=["b3arer-1", {"Authorization": "Bearer 0ther"}], password="0ther")
    log("y", url="redis://:0ther@host/0", text="password=0ther")
    try:
        raise ValueError("no login with my5ql at postgres://joe:s%40crEt@db/app")
    except ValueError:
        logging.getLogger("lib").exception("failed for %s", "pa55word")
    text = path.read_text()
    assert text.count("********") >= 9
    assert [secret for secret in SECRETS if secret in text] == []


def test_g3_libraries_are_quiet_unless_asked_for(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """INFO of client libraries is a line per request; the program's own loggers and set levels stay."""
    path = tmp_path / "log"
    logging.getLogger("redis").setLevel(logging.INFO)
    handle = configured(output=str(path), level="DEBUG", levels={"pymongo": "DEBUG", "mine.noisy": "ERROR"})
    try:
        for name in (
            "httpx",
            "httpcore.http11",
            "asyncpg",
            "botocore",
            "pymongo.topology",
            "redis",
            "mine",
            "mine.noisy",
        ):
            logging.getLogger(name).info("info of %s", name)
            logging.getLogger(name).error("error of %s", name)
    finally:
        handle.close()
        logging.getLogger("redis").setLevel(logging.NOTSET)
    infos = [line["logger"] for line in read(path) if line["level"] == "info"]
    assert infos == ["pymongo.topology", "redis", "mine"]
    assert len([line for line in read(path) if line["level"] == "error"]) == 8
    assert logging.getLogger("httpx").level == logging.NOTSET


def test_g3_levels_hold_for_our_own_lines_too(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """`drakkar_flow: DEBUG` shows commits, `root: ERROR` silences the rest."""
    configured(output=str(tmp_path / "log"), levels={"drakkar_flow": "DEBUG", "root": "ERROR"})
    structlog.get_logger("drakkar_flow").debug("ours")
    structlog.get_logger("mine").warning("theirs")
    logging.getLogger("other").warning("theirs")
    assert events(tmp_path / "log") == ["ours"]
