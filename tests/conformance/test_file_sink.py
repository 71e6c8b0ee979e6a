"""The file sink keeps every sink's promises."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.model.outcome import Delivery
from drakkar_flow.sinks.filesystem.payload import FilePayload
from drakkar_flow.sinks.filesystem.settings import FilesystemSinkConfig
from drakkar_flow.sinks.filesystem.sink import SPEC, FileSink
from drakkar_flow.testing.conformance import Item, SinkBench, SinkFeatures, SinkSuite, deliver

pytestmark = pytest.mark.anyio


class FileBench(SinkBench):
    """One file in a directory of its own."""

    spec = SPEC
    features = SinkFeatures(waits=False)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sink(self) -> FileSink:
        return FileSink("out", FilesystemSinkConfig(base_path=str(self.folder / "base")))

    def unreachable(self) -> FileSink:
        (self.folder / "file").touch()
        return FileSink("out", FilesystemSinkConfig(base_path=str(self.folder / "file" / "base")))

    def payload(self, item: Any, key: bytes | str | None = None) -> FilePayload:
        return FilePayload(path="day/items.jsonl", data=item)

    def odd(self) -> list[Any]:
        (self.folder / "base/day").mkdir(parents=True, exist_ok=True)
        (self.folder / "base/day/here").mkdir()
        return [
            *super().odd(),
            FilePayload(path="../out.jsonl", data={}),
            FilePayload(path="/etc/out.jsonl", data={}),
            FilePayload(path="day/here", data={}),
            FilePayload(path="day/" + "x" * 300, data={}),
            FilePayload(path="day/items.jsonl", data="two\nlines"),
            FilePayload(path="day/\ud800", data={}),
            FilePayload(path=["no path"], data={}),  # type: ignore[arg-type]  # wrong on purpose
            FilePayload(path=7, data={}),  # type: ignore[arg-type]  # wrong on purpose
            FilePayload(path="day/items.jsonl/below", data={}),
        ]

    def read(self) -> list[Item]:
        lines = (self.folder / "base/day/items.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [json.loads(line) for line in lines]


class TestFileSink(SinkSuite):
    """The suite."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> FileBench:
        """A fresh directory."""
        return FileBench(tmp_path)

    async def test_f7_a_descriptor_that_is_stale_is_left(
        self, bench: FileBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """ESTALE of a file that was opened before: the next attempt opens it anew."""
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch([{"n": 0}]))
            opened = False
            fdatasync, open_file = os.fdatasync, os.open

            def opening(*arguments: Any) -> int:
                nonlocal opened
                opened = True
                return open_file(*arguments)

            def syncing(descriptor: int) -> None:
                if not opened:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                fdatasync(descriptor)

            monkeypatch.setattr(os, "open", opening)
            monkeypatch.setattr(os, "fdatasync", syncing)
            delivered = await deliver(sink, SPEC, [bench.payload({"n": 1})], attempts=4)

        assert delivered.failures == []
        assert bench.read() == [{"n": 0}, {"n": 1}]

    async def test_f7_a_directory_that_is_gone_is_made_again(self, bench: FileBench) -> None:
        """Somebody removes it while its files are open."""
        async with bench.connected() as sink:
            await sink.write_batch(bench.batch([{"n": 0}]))
            shutil.rmtree(bench.folder / "base")
            await sink.write_batch(bench.batch([{"n": 1}]))

        assert bench.read() == [{"n": 1}]

    async def test_f6_a_path_object_is_a_path(self, bench: FileBench) -> None:
        """As anybody would write it."""
        async with bench.connected() as sink:
            await sink.write_batch([Delivery(FilePayload(path=Path("day/items.jsonl"), data={"n": 0}), ())])  # type: ignore[arg-type]  # a Path works too

        assert bench.read() == [{"n": 0}]
