"""Files hold whole lines only, and only below their directory."""

from __future__ import annotations

import asyncio
import fcntl
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from drakkar_flow.errors import BatchFailed, SinkError, SinkRejected, StartupError
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.filesystem.appender import MAX_OPEN_FILES, Appender
from drakkar_flow.sinks.filesystem.payload import FilePayload
from drakkar_flow.sinks.filesystem.settings import FilesystemSinkConfig
from drakkar_flow.sinks.filesystem.sink import FileSink, line_of
from support.limits import files_end_at

pytestmark = pytest.mark.anyio


class Body(BaseModel):
    """A model as users write them."""

    text: str


async def write(folder: Path, *payloads: FilePayload) -> None:
    """Write one batch through a sink of its own."""
    sink = FileSink("out", FilesystemSinkConfig(base_path=str(folder)))
    await sink.connect()
    try:
        await sink.write_batch([Delivery(payload, ()) for payload in payloads])
    finally:
        await sink.close()


@pytest.mark.parametrize("fsync", [True, False])
def test_lines_are_appended_and_parents_made(tmp_path: Path, fsync: bool) -> None:
    """Whatever the fsync policy, files grow line by line and folders appear as needed."""
    appender = Appender(tmp_path, fsync=fsync)
    appender.append("a/b/c.jsonl", [b"1", b"2"])
    appender.append("a/b/c.jsonl", [b"3"])
    appender.close()
    appender.close()

    assert (tmp_path / "a/b/c.jsonl").read_bytes() == b"1\n2\n3\n"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "", ".", "a/", "\0", "a\0b", "n" * 300, None, b"a", 7]
)
def test_d39_paths_that_are_no_file_below_the_directory_are_rejected(tmp_path: Path, path: Any) -> None:
    """Absolute paths, `..`, NUL, folders, names that are too long, and what is no text."""
    base = tmp_path / "base"
    base.mkdir()
    with pytest.raises(SinkRejected):
        Appender(base, fsync=False).append(path, [b"x"])

    assert list(tmp_path.iterdir()) == [base]


@pytest.mark.parametrize("path", ["link", "link/x", "folder/x", "dangling", "loop", "self"])
def test_symbolic_links_do_not_lead_out(tmp_path: Path, path: str) -> None:
    """Neither a linked file nor a linked folder, nor one in between, nor one without an end."""
    base = tmp_path / "base"
    base.mkdir()
    (tmp_path / "outside").mkdir()
    (base / "link").symlink_to("../outside/file")
    (base / "folder").symlink_to(tmp_path / "outside")
    (base / "dangling").symlink_to("/nowhere/at/all")
    (base / "loop").symlink_to("loop")
    (base / "self").symlink_to(".")

    with pytest.raises(SinkRejected):
        Appender(base, fsync=False).append(path, [b"x"])

    assert list((tmp_path / "outside").iterdir()) == []


def test_links_inside_the_directory_are_followed(tmp_path: Path) -> None:
    """A link to a file below the directory is a name for it, also when the directory itself is a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to("real")
    (tmp_path / "real/link").symlink_to("target")
    Appender(tmp_path / "base", fsync=False).append("link", [b"x"])

    assert (tmp_path / "real/target").read_bytes() == b"x\n"


@pytest.mark.parametrize("kind", ["folder", "pipe", "file-as-folder"])
def test_what_is_no_regular_file_is_rejected(tmp_path: Path, kind: str) -> None:
    """A folder, a named pipe without a reader (which would block) and a file in the way of a folder."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file-as-folder").touch()
    path = f"{kind}/x" if kind == "file-as-folder" else kind

    with pytest.raises(SinkRejected):
        Appender(tmp_path, fsync=False).append(path, [b"x"])


def test_a_half_line_stays_alone(tmp_path: Path) -> None:
    """What a crash left without a newline does not merge with the next line."""
    (tmp_path / "f").write_bytes(b'{"a":1}\n{"b"')
    Appender(tmp_path, fsync=False).append("f", [b"{}"])

    assert (tmp_path / "f").read_bytes() == b'{"a":1}\n{"b"\n{}\n'


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """What was written of a batch that does not fit is gone again, and later batches work."""
    appender = Appender(tmp_path, fsync=True)
    appender.append("f", [b"first"])
    with files_end_at(10_000):
        with pytest.raises(SinkError) as caught:
            appender.append("f", [b"x" * 999] * 20)
        assert not isinstance(caught.value, SinkRejected)
        assert (tmp_path / "f").read_bytes() == b"first\n"
        appender.append("f", [b"fits"])
    appender.append("f", [b"last"])

    assert (tmp_path / "f").read_bytes() == b"first\nfits\nlast\n"


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_file_that_was_rotated_away_is_made_anew(tmp_path: Path, how: str) -> None:
    """No line goes to a file that no longer has its name."""
    appender = Appender(tmp_path, fsync=False)
    appender.append("f", [b"old"])
    if how == "moved":
        (tmp_path / "f").rename(tmp_path / "f.1")
    else:
        (tmp_path / "f").unlink()
    appender.append("f", [b"new"])

    assert (tmp_path / "f").read_bytes() == b"new\n"


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_open_files_are_bounded(tmp_path: Path) -> None:
    """The files that were used last stay open; close lets go of all of them."""
    before = open_files()
    appender = Appender(tmp_path, fsync=False)
    for number in range(2 * MAX_OPEN_FILES):
        appender.append(f"{number}", [b"x"])
    held = open_files() - before
    appender.close()

    assert held == MAX_OPEN_FILES
    assert open_files() == before


def _append_many(folder: Path, name: str) -> None:
    appender = Appender(folder, fsync=False)
    for number in range(100):
        appender.append("shared", [f"{name} {number}".encode() * 50] * 3)


def test_processes_share_a_file_without_mixing_lines(tmp_path: Path) -> None:
    """Two workers with the same directory: every line is whole, every batch is together."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(tmp_path, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    lines = (tmp_path / "shared").read_bytes().splitlines()
    assert sorted(lines) == sorted(f"{name} {n}".encode() * 50 for name in "ab" for n in range(100) for _ in range(3))
    assert all(lines[index] == lines[index + 2] for index in range(0, 600, 3))


def test_a_file_is_locked_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting a failed write off must not take what another process added meanwhile."""
    attempts: list[bool] = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        with (tmp_path / "f").open() as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                attempts.append(False)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watched)
    appender = Appender(tmp_path, fsync=False)
    appender.append("f", [b"x"])
    with (tmp_path / "f").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert attempts == [False]


async def test_data_becomes_lines(tmp_path: Path) -> None:
    """Models, mappings and lists as JSON, text and bytes as they are."""
    data = [Body(text="a\nb"), {"x": [1]}, [1, 2], "plain", b"\xff", None, 3]
    await write(tmp_path, *[FilePayload(path="f", data=each) for each in data])

    assert (tmp_path / "f").read_bytes() == b'{"text":"a\\nb"}\n{"x":[1]}\n[1,2]\nplain\n\xff\nnull\n3\n'


@pytest.mark.parametrize("data", ["two\nlines", "line\n", b"a\rb"])
async def test_text_with_line_breaks_is_rejected(tmp_path: Path, data: str | bytes) -> None:
    """It can't be one line; the others of the batch are written, and no file is made for it alone."""
    with pytest.raises(BatchFailed) as caught:
        await write(tmp_path, FilePayload(path="bad", data=data), FilePayload(path="good", data="x"))

    assert list(caught.value.failures) == [0]
    assert isinstance(caught.value.failures[0], SinkRejected)
    assert (tmp_path / "good").read_bytes() == b"x\n"
    assert not (tmp_path / "bad").exists()


async def test_files_of_a_batch_fail_apart(tmp_path: Path) -> None:
    """A file that can't be written takes only its own payloads with it."""
    (tmp_path / "folder").mkdir()
    paths = ["a", "folder", "b", "../x", "a"]
    with pytest.raises(BatchFailed) as caught:
        await write(tmp_path, *[FilePayload(path=path, data=index) for index, path in enumerate(paths)])

    assert list(caught.value.failures) == [1, 3]
    assert (tmp_path / "a").read_bytes() == b"0\n4\n"
    assert (tmp_path / "b").read_bytes() == b"2\n"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3), max_size=10))
def test_any_mappings_come_back_line_by_line(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    """No text inside data can break the line structure."""
    lines = [line_of(row) for row in rows]

    assert [json.loads(line) for line in b"\n".join(lines).split(b"\n") if line] == rows


def test_a_base_path_that_is_a_file_says_so(tmp_path: Path) -> None:
    """And ends the start for good."""
    (tmp_path / "taken").touch()
    sink = FileSink("out", FilesystemSinkConfig(base_path=str(tmp_path / "taken")))
    with pytest.raises(StartupError, match="the path is a file; give a directory") as refused:
        asyncio.run(sink.connect())
    assert refused.value.exit_code == 2
