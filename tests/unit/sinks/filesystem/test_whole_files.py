"""Payloads that are whole files: bytes as they are, replaced at once, never outside of the directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import FilePayload
from drakkar_flow.errors import BatchFailed, SinkError, SinkRejected
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.filesystem.settings import FilesystemSinkConfig
from drakkar_flow.sinks.filesystem.sink import FileSink
from support.limits import files_end_at

pytestmark = pytest.mark.anyio

RAW = b"\x1f\x8b\x00\n\r\xff"


async def write(folder: Path, *payloads: FilePayload, **settings: Any) -> None:
    """Write one batch through a sink."""
    sink = FileSink("out", FilesystemSinkConfig(base_path=str(folder), **settings))
    await sink.connect()
    try:
        await sink.write_batch([Delivery(payload, ()) for payload in payloads])
    finally:
        await sink.close()


def names(folder: Path) -> list[str]:
    """What is in a folder and below."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def whole(path: str, data: Any = RAW) -> FilePayload:
    """A payload that is a file."""
    return FilePayload(path=path, data=data, format="file")


@pytest.mark.parametrize("fsync", ["batch", "never"])
async def test_n5_bytes_become_a_file_as_they_are(tmp_path: Path, fsync: str) -> None:
    """Folders are made; text and JSON are taken too, without a line break behind them."""
    await write(
        tmp_path, whole("a/b.gz"), whole("t", "x\ny"), whole("j", {"n": 1}), whole("v", memoryview(RAW)), fsync=fsync
    )
    found = {name: (tmp_path / name).read_bytes() for name in names(tmp_path) if name != "a"}
    assert found == {"a/b.gz": RAW, "t": b"x\ny", "j": b'{"n":1}', "v": RAW}


async def test_n5_a_file_that_is_sent_again_is_the_same(tmp_path: Path) -> None:
    """Whoever reads it sees the old content or the new one; what is open keeps the old one."""
    await write(tmp_path, whole("f", b"old"))
    with (tmp_path / "f").open("rb") as reader:
        await write(tmp_path, whole("f", b"newer"), whole("f", b"new"))
        assert reader.read() == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


async def test_n5_files_and_lines_of_a_batch_keep_their_order(tmp_path: Path) -> None:
    """Also when they name the same path."""
    line = FilePayload(path="f", data="line")
    await write(tmp_path, line, whole("f", b"whole\n"), line, line)
    assert (tmp_path / "f").read_bytes() == b"whole\nline\nline\n"


async def test_n5_bytes_with_line_breaks_are_no_line(tmp_path: Path) -> None:
    """The reason says which format takes them."""
    with pytest.raises(BatchFailed, match='format="file"'):
        await write(tmp_path, FilePayload(path="f", data=RAW))
    with pytest.raises(BatchFailed, match="choose line or file"):
        await write(tmp_path, FilePayload(path="f", data=RAW, format="raw"))  # type: ignore[arg-type]  # wrong on purpose
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "path", ["/etc/x", "../x", "a/..", ".", "folder", "folder/", "pipe", "out/x", "a\0b", "\ud800"]
)
async def test_g7_files_stay_in_their_directory(tmp_path: Path, path: str) -> None:
    """Paths from messages replace neither folders nor pipes, and write nothing elsewhere."""
    base = tmp_path / "base"
    (base / "folder").mkdir(parents=True)
    (base / "out").symlink_to(tmp_path)
    os.mkfifo(base / "pipe")
    before = names(tmp_path)
    with pytest.raises(BatchFailed) as caught:
        await write(base, whole(path), whole("good"))
    assert {index: type(cause) for index, cause in caught.value.failures.items()} == {0: SinkRejected}
    assert names(tmp_path) == sorted([*before, "base/good"])


async def test_n5_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """Nothing of the new one stays behind, and it may be tried again."""
    await write(tmp_path, whole("f", b"old"))
    with files_end_at(64), pytest.raises(BatchFailed) as caught:
        await write(tmp_path, whole("f", b"x" * 1000))
    assert {type(cause) for cause in caught.value.failures.values()} == {SinkError}
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]
