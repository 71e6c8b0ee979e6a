"""The file sink keeps every sink's promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conformance.sink_suite import Bench, Item, SinkSuite
from drakkar_flow.config.sinks import FilesystemSinkConfig
from drakkar_flow.model.payload import FilePayload
from drakkar_flow.sinks.files import SPEC, FileSink

pytestmark = pytest.mark.anyio


class FileBench(Bench):
    """One file in a directory of its own."""

    spec = SPEC

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sink(self) -> FileSink:
        return FileSink("out", FilesystemSinkConfig(base_path=str(self.folder / "base")))

    def unreachable(self) -> FileSink:
        (self.folder / "file").touch()
        return FileSink("out", FilesystemSinkConfig(base_path=str(self.folder / "file" / "base")))

    def payload(self, item: Any, key: bytes | str | None = None) -> FilePayload:
        return FilePayload(path="day/items.jsonl", data=item)

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
